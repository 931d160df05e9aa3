-- What all attempts of a call sent to providers, and what its client was given of the answer: bodies, without headers.
-- Expand: columns with a default; code that does not know them goes on as before. Rows of before say 0.
ALTER TABLE calls ADD COLUMN upstream_bytes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE calls ADD COLUMN answer_bytes INTEGER NOT NULL DEFAULT 0;
