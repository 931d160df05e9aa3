-- What all attempts of a call sent to providers, and what its client was given of the answer: bodies, without headers.
-- Expand: columns with a default, last in table and view; code that does not know them goes on as before. Rows of before say 0.
ALTER TABLE holdfast.calls
    ADD COLUMN upstream_bytes bigint NOT NULL DEFAULT 0,
    ADD COLUMN answer_bytes bigint NOT NULL DEFAULT 0;

CREATE OR REPLACE VIEW holdfast.all_calls AS
SELECT * FROM holdfast.calls
UNION ALL
SELECT
    *, NULL::double precision, 'open'::text, NULL::integer, NULL::text, NULL::text, NULL::text, NULL::boolean,
    NULL::bigint, NULL::text, NULL::text, NULL::text, NULL::double precision, NULL::integer, NULL::text, 0::bigint,
    0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, NULL::boolean,
    0::bigint, 0::bigint
FROM holdfast.open_calls;
