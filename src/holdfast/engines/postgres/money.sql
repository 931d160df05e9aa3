-- name: know
SELECT holdfast.know_1(%(writer)s, %(wanted)s::jsonb)

-- name: reserve
SELECT request, refused, held FROM holdfast.reserve_1(%(writer)s, %(wanted)s::jsonb, %(asked)s::jsonb)

-- name: settle
-- Ends of reservations: [call_id, scope, period, spent]. A call's reservations are given back on every balance that
-- holds one, once; its spending is booked on the balances it names and on those that met it while it was open.
-- Balances are locked in the order in which `reserve` locks them.
WITH given AS (
    SELECT r->>0 AS call_id, r->>1 AS scope, r->>2 AS period, (r->>3)::bigint AS spent
    FROM jsonb_array_elements(%(rows)s::jsonb) AS r
),
settled AS (SELECT DISTINCT ON (call_id) call_id, spent FROM given),
freed AS (
    DELETE FROM holdfast.reservations r USING settled s WHERE r.call_id = s.call_id
    RETURNING r.call_id, r.scope, r.period, r.amount_nanodollars, s.spent
),
deltas AS (
    SELECT scope, period, sum(spent) AS spent, sum(amount) AS amount
    FROM (
        SELECT scope, period, spent, 0 AS amount FROM given
        UNION ALL
        SELECT
            f.scope, f.period,
            CASE WHEN EXISTS (
                SELECT FROM given g WHERE g.call_id = f.call_id AND g.scope = f.scope AND g.period = f.period
            ) THEN 0 ELSE f.spent END,
            f.amount_nanodollars
        FROM freed f
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

-- name: orphans
-- Reservations made here whose calls are not open.
SELECT DISTINCT call_id FROM holdfast.reservations r
WHERE writer = %(writer)s AND NOT EXISTS (SELECT FROM holdfast.open_calls o WHERE o.id = r.call_id)

-- name: compare
-- Every balance that can still be recomputed beside what calls and reservations say of it, by one snapshot.
-- A reservation counts while its call is open, or is about to be: its process lives and it is younger than a minute.
WITH live AS (
    SELECT w.writer FROM holdfast.writers w JOIN pg_locks l ON l.objid = w.number::oid
    WHERE l.locktype = 'advisory' AND l.classid = 1213481297::oid
        AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
),
standing AS (
    SELECT r.scope, r.period, r.amount_nanodollars FROM holdfast.reservations r
    WHERE EXISTS (SELECT FROM holdfast.open_calls o WHERE o.id = r.call_id)
        OR (r.writer = %(writer)s AND r.call_id <> ALL (%(orphans)s::text[]))
        OR (
            r.writer <> %(writer)s AND r.writer IN (SELECT writer FROM live)
            AND r.reserved_at > clock_timestamp() - interval '1 minute'
        )
    UNION ALL
    SELECT b.scope, b.period, o.reserved_nanodollars
    FROM holdfast.balances b JOIN holdfast.open_scopes o
        ON o.scope = b.scope AND o.opened_at >= b.since AND o.opened_at < b.until
    WHERE NOT EXISTS (
        SELECT FROM holdfast.reservations r WHERE r.call_id = o.id AND r.scope = b.scope AND r.period = b.period)
),
sums AS (SELECT scope, period, sum(amount_nanodollars)::bigint AS amount FROM standing GROUP BY scope, period)
SELECT
    b.scope, b.period, b.spent_nanodollars, b.reserved_nanodollars,
    holdfast.spent_1(b.organisation, b.team, b.key_id, b.since, b.until), coalesce(s.amount, 0)
FROM holdfast.balances b LEFT JOIN sums s ON s.scope = b.scope AND s.period = b.period
WHERE b.since >= (SELECT pruned_before FROM holdfast.store)
ORDER BY b.scope, b.period

-- name: stop_batches
-- While a repair runs, no batch moves money.
SELECT pg_advisory_xact_lock(1213481296, 2)

-- name: lock_balances
SELECT FROM holdfast.balances ORDER BY scope, period FOR UPDATE

-- name: free_orphans
DELETE FROM holdfast.reservations r
WHERE NOT EXISTS (SELECT FROM holdfast.open_calls o WHERE o.id = r.call_id)
    AND (
        (writer = %(writer)s AND call_id = ANY (%(orphans)s::text[]))
        OR (
            writer <> %(writer)s AND (
                reserved_at <= clock_timestamp() - interval '1 minute'
                OR NOT EXISTS (
                    SELECT FROM holdfast.writers w JOIN pg_locks l ON l.objid = w.number::oid
                    WHERE w.writer = r.writer AND l.locktype = 'advisory' AND l.classid = 1213481297::oid
                        AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
                )
            )
        )
    )

-- name: hold_open_calls
-- An open call that a balance does not know of is held there as its row says, so that its end is booked there.
INSERT INTO holdfast.reservations (call_id, scope, period, amount_nanodollars, writer)
SELECT o.id, b.scope, b.period, o.reserved_nanodollars, %(writer)s
FROM holdfast.balances b JOIN holdfast.open_scopes o
    ON o.scope = b.scope AND o.opened_at >= b.since AND o.opened_at < b.until
ON CONFLICT DO NOTHING

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
