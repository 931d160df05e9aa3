-- name: spend
-- Add to what is spent. A balance nobody asked for yet has no row, and needs none: it is computed from call rows.
UPDATE balances SET spent_nanodollars = spent_nanodollars + v.column3
FROM (VALUES {rows}) AS v
WHERE balances.scope = v.column1 AND balances.period = v.column2

-- name: begin_balance
-- The row exists from here on, so that spending after this moment is added to it while the calls before it are summed up.
INSERT INTO balances (scope, period, since, until, spent_nanodollars, complete) VALUES (?, ?, ?, ?, 0, 0)
ON CONFLICT (scope, period) DO UPDATE SET spent_nanodollars = 0 WHERE complete = 0

-- name: complete_balance
-- Count the calls before the balance was begun.
UPDATE balances SET spent_nanodollars = spent_nanodollars + ?3, complete = 1
WHERE scope = ?1 AND period = ?2 AND complete = 0

-- name: balance
-- One balance.
SELECT spent_nanodollars, complete FROM balances WHERE scope = ? AND period = ?

-- name: balances
-- All balances that are complete, and whose calls are all still there.
SELECT scope, period, since, until, spent_nanodollars FROM balances
WHERE complete = 1 AND since > (SELECT value FROM meta WHERE name = 'calls_pruned_until')

-- name: spent_by_scope
-- What the calls of a window cost, by scope, all attempts together.
SELECT scope, sum(cost) FROM (
    SELECT {scope} AS scope, sum(cost_nanodollars) AS cost
    FROM calls WHERE opened_at >= ?1 AND opened_at < ?2 GROUP BY 1
    UNION ALL
    SELECT {scope} AS scope, sum(a.cost_nanodollars) AS cost
    FROM calls JOIN attempts AS a ON a.call_id = calls.id WHERE opened_at >= ?1 AND opened_at < ?2 GROUP BY 1
) GROUP BY 1

-- name: spent_of_scope
-- What the calls of one scope in a window cost, all attempts together.
SELECT
    (SELECT coalesce(sum(cost_nanodollars), 0) FROM calls WHERE opened_at >= ?1 AND opened_at < ?2 AND {scope} = ?3)
    + (SELECT coalesce(sum(a.cost_nanodollars), 0) FROM calls JOIN attempts AS a ON a.call_id = calls.id
       WHERE opened_at >= ?1 AND opened_at < ?2 AND {scope} = ?3)

-- name: open_of_scope
-- The open calls of one scope in a window, with what they hold.
SELECT id, reserved_nanodollars FROM calls
WHERE closed_at IS NULL AND opened_at >= ?1 AND opened_at < ?2 AND {scope} = ?3

-- name: reserved_by_scope
-- What the open calls of a window hold, by scope.
SELECT {scope}, sum(reserved_nanodollars) FROM calls
WHERE closed_at IS NULL AND opened_at >= ?1 AND opened_at < ?2 GROUP BY 1

-- name: calls_among
-- Those of the given ids (a JSON array) that have a row, and whether the call has ended.
SELECT id, closed_at IS NOT NULL FROM calls WHERE id IN (SELECT value FROM json_each(?))

-- name: delete_old_balances
-- Periods that ended before every call that is still there.
DELETE FROM balances WHERE until <= ?
