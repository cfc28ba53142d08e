-- +goose Up
-- Changes of sets of recipients are events, too.
ALTER TABLE member_sets ADD COLUMN changed_at INTEGER NOT NULL DEFAULT 0;

ALTER TABLE outbox ADD COLUMN set_kind TEXT NOT NULL DEFAULT '';  -- '': it is about a job; else job is ''
ALTER TABLE outbox ADD COLUMN set_number INTEGER NOT NULL DEFAULT 0;
ALTER TABLE outbox ADD COLUMN cardinality INTEGER NOT NULL DEFAULT 0;
ALTER TABLE outbox ADD COLUMN changed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE outbox ADD COLUMN behind INTEGER NOT NULL DEFAULT 0;  -- 1: of sets, which an import may change by the million; others go first
DROP INDEX outbox_by_mark;
CREATE INDEX outbox_by_mark ON outbox (published_at, behind, id);

-- +goose StatementBegin
CREATE TRIGGER set_made AFTER INSERT ON member_sets
BEGIN
    INSERT INTO outbox (job, version, state, reason, at, set_kind, set_number, cardinality, changed, behind)
    VALUES ('', NEW.revision, 'added', '', NEW.changed_at, NEW.kind, NEW.owner, NEW.cardinality, NEW.cardinality, 1);
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER set_changed AFTER UPDATE OF revision ON member_sets WHEN NEW.revision <> OLD.revision
BEGIN
    INSERT INTO outbox (job, version, state, reason, at, set_kind, set_number, cardinality, changed, behind)
    VALUES ('', NEW.revision, CASE WHEN NEW.cardinality < OLD.cardinality THEN 'removed' ELSE 'added' END, '', NEW.changed_at, NEW.kind, NEW.owner,
        NEW.cardinality, ABS(NEW.cardinality - OLD.cardinality), 1);
END;
-- +goose StatementEnd

-- +goose Down
DROP TRIGGER set_changed;
DROP TRIGGER set_made;
DELETE FROM outbox WHERE set_kind <> '';
DROP INDEX outbox_by_mark;
ALTER TABLE outbox DROP COLUMN behind;
ALTER TABLE outbox DROP COLUMN changed;
ALTER TABLE outbox DROP COLUMN cardinality;
ALTER TABLE outbox DROP COLUMN set_number;
ALTER TABLE outbox DROP COLUMN set_kind;
CREATE INDEX outbox_by_mark ON outbox (published_at, id);
ALTER TABLE member_sets DROP COLUMN changed_at;
