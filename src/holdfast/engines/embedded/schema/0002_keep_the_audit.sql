-- The database itself now refuses to change or delete an audit row, whoever asks.
CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit
BEGIN
    SELECT raise(ABORT, 'an audit row is append-only');
END;

CREATE TRIGGER audit_is_not_deleted BEFORE DELETE ON audit
BEGIN
    SELECT raise(ABORT, 'an audit row is append-only');
END;

-- One subject's history, newest first, without reading everybody's.
CREATE INDEX audit_by_subject ON audit (subject, at, id);
