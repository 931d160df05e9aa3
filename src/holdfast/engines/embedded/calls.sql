-- name: write_calls
-- Calls opened in this batch, closed ones with their end. A call that is already known only gets its end, and only its first.
INSERT INTO calls (
    id, request_id, organisation, team, key_id, end_user, operation, route, model, lane, node, opened_at, stream,
    reserved_nanodollars, estimated_input_tokens, estimated_output_tokens,
    closed_at, status, http_status, answered_lane, error_code, finish_reason, empty, cost_nanodollars, price_version,
    answered_model, fingerprint, first_token_seconds, attempts, served_from, saved_nanodollars,
    input_tokens, output_tokens, cached_read_tokens, cached_write_tokens, reasoning_tokens, audio_input_tokens,
    audio_output_tokens, image_input_tokens, estimated, upstream_bytes, answer_bytes
) VALUES {rows}
ON CONFLICT (id) DO UPDATE SET
    closed_at = excluded.closed_at, status = excluded.status, http_status = excluded.http_status,
    answered_lane = excluded.answered_lane, error_code = excluded.error_code, finish_reason = excluded.finish_reason,
    empty = excluded.empty, cost_nanodollars = excluded.cost_nanodollars, price_version = excluded.price_version,
    answered_model = excluded.answered_model, fingerprint = excluded.fingerprint,
    first_token_seconds = excluded.first_token_seconds, attempts = excluded.attempts, served_from = excluded.served_from,
    saved_nanodollars = excluded.saved_nanodollars, input_tokens = excluded.input_tokens,
    output_tokens = excluded.output_tokens, cached_read_tokens = excluded.cached_read_tokens,
    cached_write_tokens = excluded.cached_write_tokens, reasoning_tokens = excluded.reasoning_tokens,
    audio_input_tokens = excluded.audio_input_tokens, audio_output_tokens = excluded.audio_output_tokens,
    image_input_tokens = excluded.image_input_tokens, estimated = excluded.estimated,
    upstream_bytes = excluded.upstream_bytes, answer_bytes = excluded.answer_bytes
WHERE calls.closed_at IS NULL AND excluded.closed_at IS NOT NULL

-- name: close_calls
-- Ends of calls that were opened in an earlier batch; the first end stays.
UPDATE calls SET
    closed_at = v.column2, status = v.column3, http_status = v.column4, answered_lane = v.column5, error_code = v.column6,
    finish_reason = v.column7, empty = v.column8, cost_nanodollars = v.column9, price_version = v.column10,
    answered_model = v.column11, fingerprint = v.column12, first_token_seconds = v.column13, attempts = v.column14,
    served_from = v.column15, saved_nanodollars = v.column16, input_tokens = v.column17, output_tokens = v.column18,
    cached_read_tokens = v.column19, cached_write_tokens = v.column20, reasoning_tokens = v.column21,
    audio_input_tokens = v.column22, audio_output_tokens = v.column23, image_input_tokens = v.column24, estimated = v.column25,
    upstream_bytes = v.column26, answer_bytes = v.column27
FROM (VALUES {rows}) AS v
WHERE calls.id = v.column1 AND calls.closed_at IS NULL

-- name: unknown_calls
-- Those of the given ids (a JSON array) that no call has.
SELECT value FROM json_each(?) WHERE NOT EXISTS (SELECT 1 FROM calls WHERE id = value)

-- name: write_attempts
-- Further attempts; one written twice stays as it was.
INSERT INTO attempts (
    call_id, number, kind, lane, sent_at, ended_at, status, http_status, error_code, cost_nanodollars, price_version,
    input_tokens, output_tokens, cached_read_tokens, cached_write_tokens, reasoning_tokens, audio_input_tokens,
    audio_output_tokens, image_input_tokens, estimated
) VALUES {rows}
ON CONFLICT (call_id, number) DO NOTHING

-- name: call_by_id
-- One call.
SELECT * FROM calls WHERE id = ?

-- name: page
-- A page of a window, newest first; the last page's last row is (:before_at, :before_id).
SELECT * FROM calls
WHERE opened_at >= :since AND opened_at < :until AND {conditions}
ORDER BY opened_at DESC, id DESC
LIMIT :limit

-- name: attempts_of
-- The further attempts of the given calls (a JSON array of ids).
SELECT * FROM attempts WHERE call_id IN (SELECT value FROM json_each(?)) ORDER BY call_id, number

-- name: usage
-- Sums by group: each call with its first attempt, and each further attempt under its call's group.
SELECT {names}, sum(calls), coalesce(sum(errors), 0), coalesce(sum(input_tokens), 0), coalesce(sum(output_tokens), 0),
       coalesce(sum(cached_read_tokens), 0), coalesce(sum(cost_nanodollars), 0), coalesce(sum(saved_nanodollars), 0),
       coalesce(sum(unpriced), 0), sum(upstream_bytes), sum(answer_bytes)
FROM (
    SELECT {groups}, 1 AS calls, status IN ('error', 'unknown', 'lost') AS errors,
           input_tokens, output_tokens, cached_read_tokens, cost_nanodollars, saved_nanodollars,
           status <> 'refused' AND (cost_nanodollars IS NULL OR (attempts > 1 AND EXISTS (
               SELECT 1 FROM attempts AS a WHERE a.call_id = calls.id AND a.cost_nanodollars IS NULL
           ))) AS unpriced, upstream_bytes, answer_bytes
    FROM calls WHERE opened_at >= :since AND opened_at < :until AND {conditions}
    UNION ALL
    SELECT {groups}, 0, 0, a.input_tokens, a.output_tokens, a.cached_read_tokens, a.cost_nanodollars, 0, 0, 0, 0
    FROM calls JOIN attempts AS a ON a.call_id = calls.id
    WHERE opened_at >= :since AND opened_at < :until AND {conditions}
)
GROUP BY {names}
ORDER BY {names}
LIMIT :limit

-- name: spent
-- What the calls of a window cost, all attempts together, and what the open ones hold.
SELECT
    (SELECT coalesce(sum(cost_nanodollars), 0) FROM calls
     WHERE opened_at >= :since AND opened_at < :until AND {conditions})
    + (SELECT coalesce(sum(a.cost_nanodollars), 0) FROM calls JOIN attempts AS a ON a.call_id = calls.id
       WHERE opened_at >= :since AND opened_at < :until AND {conditions}),
    (SELECT coalesce(sum(reserved_nanodollars), 0) FROM calls
     WHERE opened_at >= :since AND opened_at < :until AND closed_at IS NULL AND {conditions})

-- name: open_calls
-- Calls without an end, oldest first.
SELECT * FROM calls WHERE closed_at IS NULL AND (:node IS NULL OR node = :node) ORDER BY opened_at, id LIMIT :limit

-- name: prunable
-- Closed calls old enough to go, oldest first.
SELECT rowid, id, opened_at FROM calls WHERE opened_at < ? AND closed_at IS NOT NULL ORDER BY opened_at LIMIT ?

-- name: delete_calls
-- Calls by rowid (a JSON array).
DELETE FROM calls WHERE rowid IN (SELECT value FROM json_each(?))

-- name: delete_attempts
-- Further attempts by call id (a JSON array).
DELETE FROM attempts WHERE call_id IN (SELECT value FROM json_each(?))

-- name: note_pruned
-- From here on sums over calls opened up to this moment are no longer whole.
UPDATE meta SET value = max(value, ?) WHERE name = 'calls_pruned_until'
