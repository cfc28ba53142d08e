-- MySQL has no ADD COLUMN IF NOT EXISTS: what is to be done is looked up first, so that
-- this can be run again.

-- +goose Up
-- Changes of sets of recipients are events, too.
SET @todo = IF((SELECT COUNT(*) FROM information_schema.columns
    WHERE table_schema = DATABASE() AND table_name = 'member_sets' AND column_name = 'changed_at') = 0,
    'ALTER TABLE member_sets ADD COLUMN changed_at BIGINT NOT NULL DEFAULT 0',
    'DO 0');
PREPARE todo FROM @todo;
EXECUTE todo;
DEALLOCATE PREPARE todo;
-- set_kind is empty if it is about a job; else job is. What is behind is of sets, which an
-- import may change by the million; others go first.
SET @todo = IF((SELECT COUNT(*) FROM information_schema.columns
    WHERE table_schema = DATABASE() AND table_name = 'outbox' AND column_name = 'set_kind') = 0,
    'ALTER TABLE outbox ADD COLUMN set_kind VARCHAR(20) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT '''', ADD COLUMN set_number BIGINT NOT NULL DEFAULT 0, ADD COLUMN cardinality BIGINT NOT NULL DEFAULT 0, ADD COLUMN changed BIGINT NOT NULL DEFAULT 0, ADD COLUMN behind TINYINT NOT NULL DEFAULT 0, DROP INDEX outbox_by_mark, ADD INDEX outbox_by_mark (published_at, behind, id)',
    'DO 0');
PREPARE todo FROM @todo;
EXECUTE todo;
DEALLOCATE PREPARE todo;

DROP TRIGGER IF EXISTS set_made;
-- +goose StatementBegin
CREATE TRIGGER set_made AFTER INSERT ON member_sets FOR EACH ROW
BEGIN
    INSERT INTO outbox (job, version, state, reason, at, set_kind, set_number, cardinality, changed, behind)
    VALUES ('', NEW.revision, 'added', '', NEW.changed_at, NEW.kind, NEW.owner, NEW.cardinality, NEW.cardinality, 1);
END;
-- +goose StatementEnd
DROP TRIGGER IF EXISTS set_changed;
-- +goose StatementBegin
CREATE TRIGGER set_changed AFTER UPDATE ON member_sets FOR EACH ROW
BEGIN
    IF NEW.revision <> OLD.revision THEN
        INSERT INTO outbox (job, version, state, reason, at, set_kind, set_number, cardinality, changed, behind)
        VALUES ('', NEW.revision, IF(NEW.cardinality < OLD.cardinality, 'removed', 'added'), '', NEW.changed_at, NEW.kind, NEW.owner,
            NEW.cardinality, ABS(NEW.cardinality - OLD.cardinality), 1);
    END IF;
END;
-- +goose StatementEnd

-- +goose Down
DROP TRIGGER set_changed;
DROP TRIGGER set_made;
DELETE FROM outbox WHERE set_kind <> '';
ALTER TABLE outbox DROP INDEX outbox_by_mark, DROP COLUMN behind, DROP COLUMN changed, DROP COLUMN cardinality, DROP COLUMN set_number, DROP COLUMN set_kind, ADD INDEX outbox_by_mark (published_at, id);
ALTER TABLE member_sets DROP COLUMN changed_at;
