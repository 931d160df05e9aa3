-- name: notice_a_vanished_node
-- The server drops a session whose machine lost its power within half a minute, and its lock with it.
SELECT set_config('tcp_keepalives_idle', '10', false), set_config('tcp_keepalives_interval', '5', false),
    set_config('tcp_keepalives_count', '3', false)

-- name: alone
SELECT pg_try_advisory_lock(1213481296, 4)

-- name: together
SELECT pg_try_advisory_lock_shared(1213481296, 4)

-- name: still_there
SELECT 1
