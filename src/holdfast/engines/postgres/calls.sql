-- name: open
-- Calls that were opened: one array a call, in the order of the columns. A call that ended is never opened again.
INSERT INTO holdfast.open_calls
SELECT
    r->>0, r->>1, r->>2, r->>3, r->>4, r->>5, r->>6, r->>7, r->>8, r->>9, r->>10, (r->>11)::double precision,
    (r->>12)::boolean, (r->>13)::bigint, (r->>14)::bigint, (r->>15)::bigint
FROM jsonb_array_elements(%(rows)s::jsonb) AS r
WHERE NOT EXISTS (SELECT FROM holdfast.calls c WHERE c.id = r->>0)
ON CONFLICT (id) DO NOTHING

-- name: close
-- Ends of calls opened before: the row moves to where ended calls stand. The first end stays; an end of no
-- call refuses the batch.
WITH ends AS (SELECT r->>0 AS id, r FROM jsonb_array_elements(%(rows)s::jsonb) AS r),
gone AS (DELETE FROM holdfast.open_calls o USING ends e WHERE o.id = e.id RETURNING o.*, e.r),
moved AS (
    INSERT INTO holdfast.calls
    SELECT
        id, request_id, organisation, team, key_id, end_user, operation, route, model, opened_lane, node, opened_at, stream,
        reserved_nanodollars, estimated_input_tokens, estimated_output_tokens,
        (r->>1)::double precision, r->>2, (r->>3)::integer, r->>4, r->>5, r->>6, (r->>7)::boolean, (r->>8)::bigint, r->>9,
        r->>10, r->>11, (r->>12)::double precision, (r->>13)::integer, r->>14, (r->>15)::bigint, (r->>16)::bigint,
        (r->>17)::bigint, (r->>18)::bigint, (r->>19)::bigint, (r->>20)::bigint, (r->>21)::bigint, (r->>22)::bigint,
        (r->>23)::bigint, (r->>24)::boolean, (r->>25)::bigint, (r->>26)::bigint
    FROM gone
    ON CONFLICT (id) DO NOTHING
)
SELECT holdfast.refuse_1(string_agg(e.id, ' ')) FROM ends e
WHERE NOT EXISTS (SELECT FROM gone g WHERE g.id = e.id) AND NOT EXISTS (SELECT FROM holdfast.calls c WHERE c.id = e.id)
HAVING count(*) > 0

-- name: whole
-- Calls whose opening and end are known together: the sixteen columns of the opening, then those of the end without the id.
WITH whole AS (SELECT r->>0 AS id, r FROM jsonb_array_elements(%(rows)s::jsonb) AS r),
gone AS (DELETE FROM holdfast.open_calls o USING whole w WHERE o.id = w.id)
INSERT INTO holdfast.calls
SELECT
    r->>0, r->>1, r->>2, r->>3, r->>4, r->>5, r->>6, r->>7, r->>8, r->>9, r->>10, (r->>11)::double precision,
    (r->>12)::boolean, (r->>13)::bigint, (r->>14)::bigint, (r->>15)::bigint, (r->>16)::double precision, r->>17,
    (r->>18)::integer, r->>19, r->>20, r->>21, (r->>22)::boolean, (r->>23)::bigint, r->>24, r->>25, r->>26,
    (r->>27)::double precision, (r->>28)::integer, r->>29, (r->>30)::bigint, (r->>31)::bigint, (r->>32)::bigint,
    (r->>33)::bigint, (r->>34)::bigint, (r->>35)::bigint, (r->>36)::bigint, (r->>37)::bigint, (r->>38)::bigint,
    (r->>39)::boolean, (r->>40)::bigint, (r->>41)::bigint
FROM whole
ON CONFLICT (id) DO NOTHING

-- name: attempt
-- Further attempts; the first row of a number stays.
INSERT INTO holdfast.attempts
SELECT
    r->>0, (r->>1)::integer, r->>2, r->>3, (r->>4)::double precision, (r->>5)::double precision, r->>6,
    (r->>7)::integer, r->>8, (r->>9)::bigint, r->>10, (r->>11)::bigint, (r->>12)::bigint, (r->>13)::bigint,
    (r->>14)::bigint, (r->>15)::bigint, (r->>16)::bigint, (r->>17)::bigint, (r->>18)::bigint, (r->>19)::boolean
FROM jsonb_array_elements(%(rows)s::jsonb) AS r
ON CONFLICT (call_id, number) DO NOTHING

-- name: rows
-- Calls as they are read back; {where} and {order} are among the fixed texts of calls.py.
SELECT * FROM holdfast.all_calls WHERE {where} {order}

-- name: attempts_of
SELECT * FROM holdfast.attempts WHERE call_id = ANY (%(ids)s::text[]) ORDER BY call_id, number

-- name: usage
-- Grouped sums over a window: tokens and cost count all attempts of a call.
WITH chosen AS MATERIALIZED (SELECT * FROM holdfast.all_calls WHERE {where}),
further AS (
    SELECT
        call_id, sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens,
        sum(cached_read_tokens) AS cached_read_tokens, sum(cost_nanodollars) AS cost_nanodollars,
        bool_or(cost_nanodollars IS NULL) AS unpriced
    FROM holdfast.attempts WHERE call_id IN (SELECT id FROM chosen) GROUP BY call_id
)
SELECT
    ARRAY[{groups}]::text[] AS grouped, count(*),
    count(*) FILTER (WHERE c.status IN ('error', 'unknown', 'lost')),
    coalesce(sum(c.input_tokens + coalesce(f.input_tokens, 0)), 0)::bigint,
    coalesce(sum(c.output_tokens + coalesce(f.output_tokens, 0)), 0)::bigint,
    coalesce(sum(c.cached_read_tokens + coalesce(f.cached_read_tokens, 0)), 0)::bigint,
    coalesce(sum(coalesce(c.cost_nanodollars, 0) + coalesce(f.cost_nanodollars, 0)), 0)::bigint,
    coalesce(sum(c.saved_nanodollars), 0)::bigint,
    count(*) FILTER (WHERE c.status NOT IN ('open', 'refused') AND (c.cost_nanodollars IS NULL OR f.unpriced)),
    coalesce(sum(c.upstream_bytes), 0)::bigint, coalesce(sum(c.answer_bytes), 0)::bigint
FROM chosen c LEFT JOIN further f ON f.call_id = c.id
GROUP BY grouped ORDER BY grouped LIMIT %(limit)s

-- name: spent
-- What calls of a window cost, all attempts together, and what the open ones among them still hold.
WITH chosen AS MATERIALIZED (
    SELECT id, status, cost_nanodollars, reserved_nanodollars FROM holdfast.all_calls WHERE {where}
)
SELECT
    coalesce(sum(cost_nanodollars), 0)::bigint + coalesce((
        SELECT sum(a.cost_nanodollars) FROM holdfast.attempts a WHERE a.call_id IN (SELECT id FROM chosen)
    ), 0)::bigint,
    coalesce(sum(reserved_nanodollars) FILTER (WHERE status = 'open'), 0)::bigint
FROM chosen

-- name: open_calls
SELECT * FROM holdfast.open_calls
WHERE (%(node)s::text IS NULL OR node = %(node)s) ORDER BY opened_at, id LIMIT %(limit)s

-- name: prune
-- The oldest ended calls opened before a moment, with their attempts and the balances whose period is over by then.
-- What is left of a period that began before it can no longer be recomputed, and the store remembers so.
WITH old AS (SELECT id FROM holdfast.calls WHERE opened_at < %(before)s ORDER BY opened_at, id LIMIT %(limit)s),
attempts AS (DELETE FROM holdfast.attempts a USING old WHERE a.call_id = old.id),
ended AS (
    DELETE FROM holdfast.balances b WHERE b.until <= %(before)s AND b.reserved_nanodollars = 0 AND NOT EXISTS (
        SELECT FROM holdfast.reservations r WHERE r.scope = b.scope AND r.period = b.period)
),
mark AS (UPDATE holdfast.store SET pruned_before = greatest(pruned_before, %(before)s) WHERE EXISTS (SELECT FROM old))
DELETE FROM holdfast.calls c USING old WHERE c.id = old.id
