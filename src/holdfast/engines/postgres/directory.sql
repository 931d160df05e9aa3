-- name: next_version
-- Holds the row until the unit is committed: versions become visible in their order.
UPDATE holdfast.directory SET version = version + 1 RETURNING version

-- name: version
SELECT version FROM holdfast.directory

-- name: organisation_version
SELECT version FROM holdfast.organisations WHERE name = %(name)s

-- name: team_version
SELECT version FROM holdfast.teams WHERE organisation = %(organisation)s AND name = %(name)s

-- name: key_version
SELECT version FROM holdfast.keys WHERE id = %(id)s

-- name: put_organisation
INSERT INTO holdfast.organisations (name, limits, created_at, deleted_at, version)
VALUES (%(name)s, %(limits)s, %(created_at)s, %(deleted_at)s, %(version)s)
ON CONFLICT (name) DO UPDATE SET
    limits = excluded.limits, created_at = excluded.created_at, deleted_at = excluded.deleted_at, version = excluded.version

-- name: put_team
INSERT INTO holdfast.teams (organisation, name, limits, created_at, deleted_at, version)
VALUES (%(organisation)s, %(name)s, %(limits)s, %(created_at)s, %(deleted_at)s, %(version)s)
ON CONFLICT (organisation, name) DO UPDATE SET
    limits = excluded.limits, created_at = excluded.created_at, deleted_at = excluded.deleted_at, version = excluded.version

-- name: put_key
INSERT INTO holdfast.keys (
    id, name, organisation, team, hashes, hint, role, may_call, models, tags, limits, expires_at, created_at, revoked_at, version
)
VALUES (
    %(id)s, %(name)s, %(organisation)s, %(team)s, %(hashes)s, %(hint)s, %(role)s, %(may_call)s, %(models)s, %(tags)s,
    %(limits)s, %(expires_at)s, %(created_at)s, %(revoked_at)s, %(version)s
)
ON CONFLICT (id) DO UPDATE SET
    name = excluded.name, organisation = excluded.organisation, team = excluded.team, hashes = excluded.hashes,
    hint = excluded.hint, role = excluded.role, may_call = excluded.may_call, models = excluded.models,
    tags = excluded.tags, limits = excluded.limits, expires_at = excluded.expires_at, created_at = excluded.created_at,
    revoked_at = excluded.revoked_at, version = excluded.version

-- name: audited
INSERT INTO holdfast.audit (id, at, actor, action, subject, request_id, before, after)
VALUES (%(id)s, %(at)s, %(actor)s, %(action)s, %(subject)s, %(request_id)s, %(before)s, %(after)s)

-- name: changes
-- Everything that changed after a version, by one snapshot: a row is [kind, row].
SELECT 'version', to_jsonb(d) FROM holdfast.directory d
UNION ALL
SELECT 'organisation', to_jsonb(o) FROM holdfast.organisations o WHERE o.version > %(after)s
UNION ALL
SELECT 'team', to_jsonb(t) FROM holdfast.teams t WHERE t.version > %(after)s
UNION ALL
SELECT 'key', to_jsonb(k) FROM holdfast.keys k WHERE k.version > %(after)s

-- name: audit
SELECT id, at, actor, action, subject, request_id, before, after FROM holdfast.audit
WHERE (%(subject)s::text IS NULL OR subject = %(subject)s)
    AND (%(at)s::double precision IS NULL OR (at, id) < (%(at)s, %(id)s))
ORDER BY at DESC, id DESC LIMIT %(limit)s
