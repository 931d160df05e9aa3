-- One row a value that exists once: the identity of this store's history, counters.
CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value ANY
) STRICT, WITHOUT ROWID;

-- One row a client call: what was known when its first attempt was sent, then its end with that attempt's usage and cost.
CREATE TABLE calls (
    id                      TEXT    NOT NULL UNIQUE,
    request_id              TEXT    NOT NULL,
    organisation            TEXT    NOT NULL,
    team                    TEXT    NOT NULL,
    key_id                  TEXT    NOT NULL,
    end_user                TEXT,
    operation               TEXT    NOT NULL,
    route                   TEXT    NOT NULL,
    model                   TEXT    NOT NULL,
    lane                    TEXT    NOT NULL,
    node                    TEXT    NOT NULL,
    opened_at               REAL    NOT NULL,
    stream                  INTEGER NOT NULL,
    reserved_nanodollars    INTEGER NOT NULL,
    estimated_input_tokens  INTEGER NOT NULL,
    estimated_output_tokens INTEGER NOT NULL,
    closed_at               REAL,
    status                  TEXT,
    http_status             INTEGER,
    answered_lane           TEXT,
    error_code              TEXT,
    finish_reason           TEXT,
    empty                   INTEGER,
    cost_nanodollars        INTEGER,
    price_version           TEXT,
    answered_model          TEXT,
    fingerprint             TEXT,
    first_token_seconds     REAL,
    attempts                INTEGER,
    served_from             TEXT,
    saved_nanodollars       INTEGER,
    input_tokens            INTEGER,
    output_tokens           INTEGER,
    cached_read_tokens      INTEGER,
    cached_write_tokens     INTEGER,
    reasoning_tokens        INTEGER,
    audio_input_tokens      INTEGER,
    audio_output_tokens     INTEGER,
    image_input_tokens      INTEGER,
    estimated               INTEGER
) STRICT;

-- Every index is paid for by every call, so there are three: the id (the UNIQUE above), the window every query names,
-- and the calls without an end, which is nearly always empty because most calls open and close in one batch.
CREATE INDEX calls_by_opened_at ON calls (opened_at);
CREATE INDEX calls_without_end ON calls (opened_at) WHERE closed_at IS NULL;

-- One row a further attempt of a call: failover, hedge, repair.
CREATE TABLE attempts (
    call_id             TEXT    NOT NULL,
    number              INTEGER NOT NULL,
    kind                TEXT    NOT NULL,
    lane                TEXT    NOT NULL,
    sent_at             REAL    NOT NULL,
    ended_at            REAL    NOT NULL,
    status              TEXT    NOT NULL,
    http_status         INTEGER,
    error_code          TEXT,
    cost_nanodollars    INTEGER,
    price_version       TEXT,
    input_tokens        INTEGER NOT NULL,
    output_tokens       INTEGER NOT NULL,
    cached_read_tokens  INTEGER NOT NULL,
    cached_write_tokens INTEGER NOT NULL,
    reasoning_tokens    INTEGER NOT NULL,
    audio_input_tokens  INTEGER NOT NULL,
    audio_output_tokens INTEGER NOT NULL,
    image_input_tokens  INTEGER NOT NULL,
    estimated           INTEGER NOT NULL,
    PRIMARY KEY (call_id, number)
) STRICT, WITHOUT ROWID;

-- What was spent of one budget in one period. What is reserved is not stored: it is the sum over open calls.
-- `complete` is 0 while the calls before the budget was first asked for are not yet counted in.
CREATE TABLE balances (
    scope             TEXT    NOT NULL,
    period            TEXT    NOT NULL,
    since             REAL    NOT NULL,
    until             REAL    NOT NULL,
    spent_nanodollars INTEGER NOT NULL,
    complete          INTEGER NOT NULL,
    PRIMARY KEY (scope, period)
) STRICT, WITHOUT ROWID;

CREATE TABLE organisations (
    name       TEXT    PRIMARY KEY,
    limits     TEXT    NOT NULL,
    created_at REAL    NOT NULL,
    deleted_at REAL,
    version    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE teams (
    organisation TEXT    NOT NULL,
    name         TEXT    NOT NULL,
    limits       TEXT    NOT NULL,
    created_at   REAL    NOT NULL,
    deleted_at   REAL,
    version      INTEGER NOT NULL,
    PRIMARY KEY (organisation, name)
) STRICT, WITHOUT ROWID;

-- `hashes` holds SHA-256 fingerprints, never a secret.
CREATE TABLE keys (
    id           TEXT    PRIMARY KEY,
    name         TEXT    NOT NULL,
    organisation TEXT    NOT NULL,
    team         TEXT    NOT NULL,
    hashes       TEXT    NOT NULL,
    hint         TEXT    NOT NULL,
    role         TEXT    NOT NULL,
    may_call     INTEGER NOT NULL,
    models       TEXT    NOT NULL,
    tags         TEXT    NOT NULL,
    limits       TEXT    NOT NULL,
    expires_at   REAL,
    created_at   REAL    NOT NULL,
    revoked_at   REAL,
    version      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX keys_by_version ON keys (version);

-- Who did what to what.
CREATE TABLE audit (
    at         REAL NOT NULL,
    id         TEXT NOT NULL UNIQUE,
    actor      TEXT NOT NULL,
    action     TEXT NOT NULL,
    subject    TEXT NOT NULL,
    request_id TEXT,
    before     TEXT,
    after      TEXT,
    PRIMARY KEY (at, id)
) STRICT, WITHOUT ROWID;

INSERT INTO meta (name, value) VALUES ('directory_version', 0), ('calls_pruned_until', -1.0), ('touched', 0);
