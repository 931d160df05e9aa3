-- name: next_version
-- Versions grow by commit.
UPDATE meta SET value = value + 1 WHERE name = 'directory_version' RETURNING value

-- name: version
-- The version of the last change.
SELECT value FROM meta WHERE name = 'directory_version'

-- name: put_organisation
-- Insert or replace.
INSERT OR REPLACE INTO organisations (name, limits, created_at, deleted_at, version) VALUES (?, ?, ?, ?, ?)

-- name: put_team
-- Insert or replace.
INSERT OR REPLACE INTO teams (organisation, name, limits, created_at, deleted_at, version) VALUES (?, ?, ?, ?, ?, ?)

-- name: put_key
-- Insert or replace.
INSERT OR REPLACE INTO keys (
    id, name, organisation, team, hashes, hint, role, may_call, models, tags, limits, expires_at, created_at, revoked_at, version
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: organisation_version
-- The version an organisation is at.
SELECT version FROM organisations WHERE name = ?

-- name: team_version
-- The version a team is at.
SELECT version FROM teams WHERE organisation = ? AND name = ?

-- name: key_version
-- The version a key is at.
SELECT version FROM keys WHERE id = ?

-- name: organisations_since
-- Organisations changed after a version.
SELECT name, limits, created_at, deleted_at, version FROM organisations WHERE version > ? ORDER BY version

-- name: teams_since
-- Teams changed after a version.
SELECT organisation, name, limits, created_at, deleted_at, version FROM teams WHERE version > ? ORDER BY version

-- name: keys_since
-- Keys changed after a version.
SELECT id, name, organisation, team, hashes, hint, role, may_call, models, tags, limits, expires_at, created_at, revoked_at, version
FROM keys WHERE version > ? ORDER BY version

-- name: add_audited
-- Append an audit row.
INSERT INTO audit (at, id, actor, action, subject, request_id, before, after) VALUES (?, ?, ?, ?, ?, ?, ?, ?)

-- name: audit_page
-- A page of the audit, newest first.
SELECT id, at, actor, action, subject, request_id, before, after FROM audit
WHERE {conditions}
ORDER BY at DESC, id DESC
LIMIT :limit
