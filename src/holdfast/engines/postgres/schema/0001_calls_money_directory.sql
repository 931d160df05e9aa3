-- Calls, money and directory, and the marks that let a writer repeat a batch without applying it twice.

-- What this store is: its identity changes when its history does.
CREATE TABLE holdfast.store (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    incarnation text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- One row a process that writes; `applied` is the last batch of it that was committed. `number` is what the process
-- holds an advisory lock on while it lives.
CREATE TABLE holdfast.writers (
    writer text PRIMARY KEY,
    number integer GENERATED ALWAYS AS IDENTITY UNIQUE,
    node text NOT NULL,
    applied bigint NOT NULL DEFAULT 0,
    opened_at timestamptz NOT NULL DEFAULT now(),
    seen_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

-- Calls without an end: few, and gone within minutes. Apart, so that the large table is only ever added to.
CREATE TABLE holdfast.open_calls (
    id text PRIMARY KEY,
    request_id text NOT NULL,
    organisation text NOT NULL,
    team text NOT NULL,
    key_id text NOT NULL,
    end_user text,
    operation text NOT NULL,
    route text NOT NULL,
    model text NOT NULL,
    opened_lane text NOT NULL,
    node text NOT NULL,
    opened_at double precision NOT NULL,
    stream boolean NOT NULL,
    reserved_nanodollars bigint NOT NULL,
    estimated_input_tokens bigint NOT NULL,
    estimated_output_tokens bigint NOT NULL
);

-- Calls that ended, with what their first attempt used and cost.
CREATE TABLE holdfast.calls (
    LIKE holdfast.open_calls,
    closed_at double precision NOT NULL,
    status text NOT NULL,
    http_status integer NOT NULL,
    lane text NOT NULL,
    error_code text,
    finish_reason text,
    empty boolean NOT NULL,
    cost_nanodollars bigint,
    price_version text,
    answered_model text,
    fingerprint text,
    first_token_seconds double precision,
    attempts integer NOT NULL,
    served_from text,
    saved_nanodollars bigint NOT NULL,
    input_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    cached_read_tokens bigint NOT NULL,
    cached_write_tokens bigint NOT NULL,
    reasoning_tokens bigint NOT NULL,
    audio_input_tokens bigint NOT NULL,
    audio_output_tokens bigint NOT NULL,
    image_input_tokens bigint NOT NULL,
    estimated boolean NOT NULL,
    PRIMARY KEY (id)
);
CREATE INDEX calls_by_time ON holdfast.calls (opened_at, id);
CREATE INDEX calls_by_team ON holdfast.calls (organisation, team, opened_at) INCLUDE (cost_nanodollars);
CREATE INDEX calls_by_key ON holdfast.calls (key_id, opened_at) INCLUDE (cost_nanodollars);

-- Second and later attempts.
CREATE TABLE holdfast.attempts (
    call_id text NOT NULL,
    number integer NOT NULL,
    kind text NOT NULL,
    lane text NOT NULL,
    sent_at double precision NOT NULL,
    ended_at double precision NOT NULL,
    status text NOT NULL,
    http_status integer,
    error_code text,
    cost_nanodollars bigint,
    price_version text,
    input_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    cached_read_tokens bigint NOT NULL,
    cached_write_tokens bigint NOT NULL,
    reasoning_tokens bigint NOT NULL,
    audio_input_tokens bigint NOT NULL,
    audio_output_tokens bigint NOT NULL,
    image_input_tokens bigint NOT NULL,
    estimated boolean NOT NULL,
    PRIMARY KEY (call_id, number)
);

-- Open and ended calls as one.
CREATE VIEW holdfast.all_calls AS
SELECT * FROM holdfast.calls
UNION ALL
SELECT
    *, NULL::double precision, 'open'::text, NULL::integer, NULL::text, NULL::text, NULL::text, NULL::boolean,
    NULL::bigint, NULL::text, NULL::text, NULL::text, NULL::double precision, NULL::integer, NULL::text, 0::bigint,
    0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, NULL::boolean
FROM holdfast.open_calls;

-- Under which scopes an open call's money falls.
CREATE VIEW holdfast.open_scopes AS
SELECT o.id, s.scope, o.opened_at, o.reserved_nanodollars
FROM holdfast.open_calls o CROSS JOIN LATERAL (
    VALUES ('org:' || o.organisation), ('team:' || o.organisation || '/' || o.team), ('key:' || o.key_id)
) AS s (scope);

-- Budgets: what a scope spent and reserved in a period. `reserved` is the sum of its reservations, always.
-- Scopes are stored apart: a key, or an organisation, or an organisation and a team.
CREATE TABLE holdfast.balances (
    scope text NOT NULL,
    period text NOT NULL,
    organisation text,
    team text,
    key_id text,
    since double precision NOT NULL,
    until double precision NOT NULL,
    spent_nanodollars bigint NOT NULL,
    reserved_nanodollars bigint NOT NULL,
    PRIMARY KEY (scope, period)
) WITH (fillfactor = 50);

-- What one call holds of one balance until it is settled. An adopted one belongs to a call that was open before the
-- balance was known: its end is booked there although its settlement does not name the balance.
CREATE TABLE holdfast.reservations (
    call_id text NOT NULL,
    scope text NOT NULL,
    period text NOT NULL,
    amount_nanodollars bigint NOT NULL,
    writer text NOT NULL,
    reserved_at double precision NOT NULL,
    adopted boolean NOT NULL DEFAULT false,
    PRIMARY KEY (call_id, scope, period)
);

-- Organisations, teams and keys that the API made. One row holds the version of the whole; it is locked by the
-- transaction that raises it, so versions become visible in their order.
CREATE TABLE holdfast.directory (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    version bigint NOT NULL
);
INSERT INTO holdfast.directory (version) VALUES (0);

CREATE TABLE holdfast.organisations (
    name text PRIMARY KEY,
    limits jsonb NOT NULL,
    created_at double precision NOT NULL,
    deleted_at double precision,
    version bigint NOT NULL
);
CREATE INDEX organisations_by_version ON holdfast.organisations (version);

CREATE TABLE holdfast.teams (
    organisation text NOT NULL,
    name text NOT NULL,
    limits jsonb NOT NULL,
    created_at double precision NOT NULL,
    deleted_at double precision,
    version bigint NOT NULL,
    PRIMARY KEY (organisation, name)
);
CREATE INDEX teams_by_version ON holdfast.teams (version);

CREATE TABLE holdfast.keys (
    id text PRIMARY KEY,
    name text NOT NULL,
    organisation text NOT NULL,
    team text NOT NULL,
    hashes jsonb NOT NULL,
    hint text NOT NULL,
    role text NOT NULL,
    may_call boolean NOT NULL,
    models jsonb NOT NULL,
    tags jsonb NOT NULL,
    limits jsonb NOT NULL,
    expires_at double precision,
    created_at double precision NOT NULL,
    revoked_at double precision,
    version bigint NOT NULL
);
CREATE INDEX keys_by_version ON holdfast.keys (version);

CREATE TABLE holdfast.audit (
    id text PRIMARY KEY,
    at double precision NOT NULL,
    actor text NOT NULL,
    action text NOT NULL,
    subject text NOT NULL,
    request_id text,
    before jsonb,
    after jsonb
);
CREATE INDEX audit_by_time ON holdfast.audit (at, id);

-- First statement of every batch: the batch is applied once however often it is sent, even while an earlier sending
-- of it is still running, because both need the writer's row. HF001: it is applied; HF002: nobody knows the writer.
-- The shared lock keeps balances from being counted for the first time between a batch's calls and its money.
CREATE FUNCTION holdfast.advance_1(who text, batch bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(1213481296, 2);
    UPDATE holdfast.writers SET applied = batch, seen_at = now() WHERE writer = who AND applied < batch;
    IF NOT FOUND THEN
        IF EXISTS (SELECT FROM holdfast.writers WHERE writer = who) THEN
            RAISE EXCEPTION 'batch % is applied', batch USING ERRCODE = 'HF001';
        END IF;
        RAISE EXCEPTION 'unknown writer' USING ERRCODE = 'HF002';
    END IF;
END $$;

-- Refuses a batch in which calls end that nobody opened.
CREATE FUNCTION holdfast.refuse_1(ids text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the end of a call that is not known: %', ids USING ERRCODE = 'HF003';
END $$;

-- What ended calls of a scope cost that were opened in [since, until), all attempts together. STABLE: it reads by the
-- snapshot of the statement that calls it.
CREATE FUNCTION holdfast.spent_1(
    of_organisation text, of_team text, of_key text, since double precision, until double precision
) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
DECLARE
    first_attempts bigint;
    further_attempts bigint;
BEGIN
    IF of_key IS NOT NULL THEN
        SELECT sum(cost_nanodollars) INTO first_attempts FROM holdfast.calls
        WHERE key_id = of_key AND opened_at >= since AND opened_at < until;
    ELSIF of_team IS NOT NULL THEN
        SELECT sum(cost_nanodollars) INTO first_attempts FROM holdfast.calls
        WHERE organisation = of_organisation AND team = of_team AND opened_at >= since AND opened_at < until;
    ELSE
        SELECT sum(cost_nanodollars) INTO first_attempts FROM holdfast.calls
        WHERE organisation = of_organisation AND opened_at >= since AND opened_at < until;
    END IF;
    SELECT sum(a.cost_nanodollars) INTO further_attempts
    FROM holdfast.attempts a JOIN holdfast.calls c ON c.id = a.call_id
    WHERE c.opened_at >= since AND c.opened_at < until
        AND (of_key IS NULL OR c.key_id = of_key)
        AND (of_organisation IS NULL OR c.organisation = of_organisation)
        AND (of_team IS NULL OR c.team = of_team);
    RETURN coalesce(first_attempts, 0) + coalesce(further_attempts, 0);
END $$;

-- Meet balances nobody knows yet: count the calls so far, with no batch in between, and adopt the open ones.
CREATE FUNCTION holdfast.know_1(who text, at double precision, wanted jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    fresh holdfast.balances;
BEGIN
    PERFORM pg_advisory_xact_lock(1213481296, 2);
    FOR fresh IN
        SELECT w.scope, w.period, w.organisation, w.team, w.key_id, w.since, w.until, 0, 0
        FROM jsonb_to_recordset(wanted) AS w (
            scope text, period text, organisation text, team text, key_id text,
            since double precision, until double precision
        )
        WHERE NOT EXISTS (SELECT FROM holdfast.balances b WHERE b.scope = w.scope AND b.period = w.period)
        ORDER BY w.scope, w.period
    LOOP
        fresh.spent_nanodollars := holdfast.spent_1(fresh.organisation, fresh.team, fresh.key_id, fresh.since, fresh.until);
        INSERT INTO holdfast.reservations (call_id, scope, period, amount_nanodollars, writer, reserved_at, adopted)
        SELECT o.id, fresh.scope, fresh.period, o.reserved_nanodollars, who, at, true
        FROM holdfast.open_scopes o
        WHERE o.scope = fresh.scope AND o.opened_at >= fresh.since AND o.opened_at < fresh.until
        ON CONFLICT DO NOTHING;
        SELECT coalesce(sum(amount_nanodollars), 0) INTO fresh.reserved_nanodollars
        FROM holdfast.reservations WHERE scope = fresh.scope AND period = fresh.period;
        INSERT INTO holdfast.balances SELECT fresh.* ON CONFLICT DO NOTHING;
    END LOOP;
END $$;

-- Many reservations, decided one after the other, in one transaction that waits for no client while it holds locks.
-- `wanted`: distinct [scope, period], sorted. `asked`: [call_id, amount, [places in wanted, from 1], [limits]].
-- A row answers a request: `refused` is 0, or which of its balances would pass its limit (from 1); `held` is
-- spent and reserved of all its balances afterwards, or of the refusing one. No row at all: a balance is not known.
CREATE FUNCTION holdfast.reserve_1(who text, at double precision, wanted jsonb, asked jsonb)
RETURNS TABLE (request integer, refused integer, held bigint[]) LANGUAGE plpgsql AS $$
DECLARE
    known integer;
    spent bigint[];
    reserved bigint[];
    added bigint[];
    granted bigint[] := '{}';
    ask record;
    place integer;
BEGIN
    PERFORM FROM holdfast.balances b
    JOIN (SELECT w->>0 AS scope, w->>1 AS period FROM jsonb_array_elements(wanted) AS w) AS w
        ON b.scope = w.scope AND b.period = w.period
    ORDER BY b.scope, b.period FOR UPDATE OF b;
    SELECT count(b.scope), array_agg(b.spent_nanodollars ORDER BY n), array_agg(b.reserved_nanodollars ORDER BY n)
    INTO known, spent, reserved
    FROM jsonb_array_elements(wanted) WITH ORDINALITY AS w (pair, n)
    LEFT JOIN holdfast.balances b ON b.scope = w.pair->>0 AND b.period = w.pair->>1;
    IF known < jsonb_array_length(wanted) THEN
        RETURN;
    END IF;
    added := array_fill(0::bigint, ARRAY[known]);
    FOR ask IN
        SELECT n, (r->>1)::bigint AS amount,
            ARRAY(SELECT p::integer FROM jsonb_array_elements_text(r->2) AS p) AS places,
            ARRAY(SELECT l::bigint FROM jsonb_array_elements_text(r->3) AS l) AS limits
        FROM jsonb_array_elements(asked) WITH ORDINALITY AS q (r, n)
        ORDER BY n
    LOOP
        request := ask.n;
        refused := 0;
        held := '{}';
        FOR i IN 1 .. cardinality(ask.places) LOOP
            place := ask.places[i];
            IF spent[place] + reserved[place] + ask.amount > ask.limits[i] THEN
                refused := i;
                held := ARRAY[spent[place], reserved[place]];
                EXIT;
            END IF;
        END LOOP;
        IF refused = 0 THEN
            granted := granted || ask.n;
            FOREACH place IN ARRAY ask.places LOOP
                reserved[place] := reserved[place] + ask.amount;
                added[place] := added[place] + ask.amount;
                held := held || spent[place] || reserved[place];
            END LOOP;
        END IF;
        RETURN NEXT;
    END LOOP;
    UPDATE holdfast.balances b SET reserved_nanodollars = reserved[w.n]
    FROM jsonb_array_elements(wanted) WITH ORDINALITY AS w (pair, n)
    WHERE b.scope = w.pair->>0 AND b.period = w.pair->>1 AND added[w.n] <> 0;
    INSERT INTO holdfast.reservations (call_id, scope, period, amount_nanodollars, writer, reserved_at)
    SELECT r->>0, wanted->(p::integer - 1)->>0, wanted->(p::integer - 1)->>1, sum((r->>1)::bigint), who, at
    FROM jsonb_array_elements(asked) WITH ORDINALITY AS q (r, n), jsonb_array_elements_text(r->2) AS p
    WHERE n = ANY (granted)
    GROUP BY 1, 2, 3
    ON CONFLICT (call_id, scope, period)
    DO UPDATE SET amount_nanodollars = reservations.amount_nanodollars + excluded.amount_nanodollars;
END $$;
