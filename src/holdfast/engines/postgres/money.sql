-- name: know
SELECT holdfast.know_1(%(writer)s, %(now)s, %(wanted)s::jsonb)

-- name: reserve
SELECT request, refused, held FROM holdfast.reserve_1(%(writer)s, %(now)s, %(wanted)s::jsonb, %(asked)s::jsonb)

-- name: settle
-- Ends of reservations: [call_id, scope, period, reserved, spent], and the calls that ended in this batch. What a call
-- holds of a balance is given back up to what it holds, so that nothing is given back twice; an ended call holds nothing.
-- Balances are locked in the order in which `reserve` locks them.
WITH given AS (
    SELECT r->>0 AS call_id, r->>1 AS scope, r->>2 AS period, sum((r->>3)::bigint) AS reserved, sum((r->>4)::bigint) AS spent
    FROM jsonb_array_elements(%(rows)s::jsonb) AS r GROUP BY 1, 2, 3
),
freed AS (
    DELETE FROM holdfast.reservations r USING given g
    WHERE r.call_id = g.call_id AND r.scope = g.scope AND r.period = g.period
        AND (r.amount_nanodollars <= g.reserved OR r.call_id = ANY (%(ended)s::text[]))
    RETURNING r.scope, r.period, r.amount_nanodollars AS amount
),
lessened AS (
    UPDATE holdfast.reservations r SET amount_nanodollars = r.amount_nanodollars - g.reserved FROM given g
    WHERE r.call_id = g.call_id AND r.scope = g.scope AND r.period = g.period
        AND NOT (r.amount_nanodollars <= g.reserved OR r.call_id = ANY (%(ended)s::text[]))
    RETURNING r.scope, r.period, g.reserved AS amount
),
adopted AS (
    DELETE FROM holdfast.reservations r
    WHERE r.adopted AND r.call_id = ANY (%(ended)s::text[]) AND NOT EXISTS (
        SELECT FROM given g WHERE r.call_id = g.call_id AND r.scope = g.scope AND r.period = g.period)
    RETURNING r.call_id, r.scope, r.period, r.amount_nanodollars AS amount
),
deltas AS (
    SELECT scope, period, sum(spent) AS spent, sum(amount) AS amount
    FROM (
        SELECT scope, period, spent, 0 AS amount FROM given
        UNION ALL
        SELECT scope, period, 0, amount FROM freed
        UNION ALL
        SELECT scope, period, 0, amount FROM lessened
        UNION ALL
        SELECT
            a.scope, a.period, coalesce(c.cost_nanodollars, 0) + coalesce((
                SELECT sum(f.cost_nanodollars) FROM holdfast.attempts f WHERE f.call_id = a.call_id
            ), 0), a.amount
        FROM adopted a JOIN holdfast.calls c ON c.id = a.call_id
    ) AS d GROUP BY scope, period
),
locked AS MATERIALIZED (
    SELECT b.scope, b.period FROM holdfast.balances b JOIN deltas USING (scope, period)
    ORDER BY b.scope, b.period FOR UPDATE OF b
)
UPDATE holdfast.balances b
SET spent_nanodollars = b.spent_nanodollars + d.spent, reserved_nanodollars = b.reserved_nanodollars - d.amount
FROM deltas d JOIN locked USING (scope, period)
WHERE b.scope = d.scope AND b.period = d.period

-- name: held
SELECT scope, period, spent_nanodollars, reserved_nanodollars FROM holdfast.balances
WHERE (scope, period) IN (SELECT w->>0, w->>1 FROM jsonb_array_elements(%(wanted)s::jsonb) AS w)

-- name: alone
-- One recomputation at a time in the whole fleet.
SELECT pg_advisory_lock(1213481296, 3)

-- name: no_longer_alone
SELECT pg_advisory_unlock(1213481296, 3)

-- name: compare
-- Every balance that can still be recomputed beside what calls and reservations say of it, by one snapshot.
WITH sums AS (
    SELECT r.scope, r.period, sum(r.amount_nanodollars)::bigint AS amount
    FROM holdfast.reservations r WHERE {stands} GROUP BY r.scope, r.period
)
SELECT
    b.scope, b.period, b.spent_nanodollars, b.reserved_nanodollars,
    holdfast.spent_1(b.organisation, b.team, b.key_id, b.since, b.until), coalesce(s.amount, 0)
FROM holdfast.balances b LEFT JOIN sums s ON s.scope = b.scope AND s.period = b.period
WHERE b.since >= (SELECT pruned_before FROM holdfast.store)
ORDER BY b.scope, b.period

-- name: stands
-- Of a reservation r: its call is open, or is about to be, because its process lives and it is not too old.
(
    EXISTS (SELECT FROM holdfast.open_calls o WHERE o.id = r.call_id)
    OR (
        NOT EXISTS (SELECT FROM holdfast.calls c WHERE c.id = r.call_id)
        AND r.reserved_at > %(unopened_since)s
        AND (r.writer = %(writer)s OR r.writer IN (
            SELECT w.writer FROM holdfast.writers w JOIN pg_locks l ON l.objid = w.number::oid
            WHERE l.locktype = 'advisory' AND l.classid = 1213481297::oid
                AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        ))
    )
)

-- name: stop_batches
-- While a repair runs, no batch moves money.
SELECT pg_advisory_xact_lock(1213481296, 2)

-- name: lock_balances
SELECT FROM holdfast.balances ORDER BY scope, period FOR UPDATE

-- name: free_leaked
DELETE FROM holdfast.reservations r WHERE NOT {stands}

-- name: repair
-- `deltas`: [scope, period, spending to add]. Spending is corrected by the difference seen, which no call that ended
-- since can have changed; what is reserved becomes the sum of the reservations.
WITH deltas AS (
    SELECT d->>0 AS scope, d->>1 AS period, (d->>2)::bigint AS spent FROM jsonb_array_elements(%(deltas)s::jsonb) AS d
),
sums AS (
    SELECT scope, period, sum(amount_nanodollars) AS amount FROM holdfast.reservations GROUP BY scope, period
),
wanted AS (
    SELECT b.scope, b.period, coalesce(d.spent, 0) AS spent, coalesce(s.amount, 0) AS amount
    FROM holdfast.balances b
    LEFT JOIN deltas d ON d.scope = b.scope AND d.period = b.period
    LEFT JOIN sums s ON s.scope = b.scope AND s.period = b.period
    WHERE b.since >= (SELECT pruned_before FROM holdfast.store)
)
UPDATE holdfast.balances b
SET spent_nanodollars = b.spent_nanodollars + w.spent, reserved_nanodollars = w.amount
FROM wanted w WHERE b.scope = w.scope AND b.period = w.period
