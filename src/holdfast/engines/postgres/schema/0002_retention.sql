-- Retention: a period whose call rows were partly deleted can no longer be recomputed; remember up to when that is.
-- Expand: a column with a default; code that does not know it goes on as before.
ALTER TABLE holdfast.store ADD COLUMN pruned_before double precision NOT NULL DEFAULT 0;

-- Deleting attempts of pruned calls, and balances whose period is over, must not read the whole table.
CREATE INDEX balances_by_end ON holdfast.balances (until);
