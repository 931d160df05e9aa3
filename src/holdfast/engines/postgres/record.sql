-- name: register
-- A process that writes says who it is; the number is what it holds its advisory lock on.
INSERT INTO holdfast.writers (writer, node) VALUES (%(writer)s, %(node)s)
ON CONFLICT (writer) DO UPDATE SET seen_at = now()
RETURNING number

-- name: live
-- Held for as long as the connection stands (shared, for a lost one may linger): other nodes see that the reservations of this one may still be used.
SELECT pg_advisory_lock_shared(1213481297, %(number)s)

-- name: plan_by_key
-- The writer looks rows up by key, and its plans are kept: one made while a table was small must not read all of it later.
SELECT set_config('enable_seqscan', 'off', false), set_config('enable_hashjoin', 'off', false),
    set_config('enable_mergejoin', 'off', false)

-- name: forget_writers
-- Rows of processes that have been gone for a month.
DELETE FROM holdfast.writers WHERE seen_at < now() - interval '30 days'

-- name: advance
-- First in every batch: HF001 when the batch is applied already, HF002 when the writer is not known.
SELECT holdfast.advance_1(%(writer)s, %(batch)s)

-- name: ping
-- A real write, small enough for every second.
UPDATE holdfast.writers SET seen_at = now() WHERE writer = %(writer)s

-- name: incarnation
INSERT INTO holdfast.store (incarnation) VALUES (%(incarnation)s)
ON CONFLICT (single) DO UPDATE SET incarnation = store.incarnation
RETURNING incarnation
