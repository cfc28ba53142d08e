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

-- States of which a job's webhook is told, each between commas, and its host.
SET @todo = IF((SELECT COUNT(*) FROM information_schema.columns
    WHERE table_schema = DATABASE() AND table_name = 'jobs' AND column_name = 'webhook_on') = 0,
    'ALTER TABLE jobs ADD COLUMN webhook_on VARCHAR(400) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT '''', ADD COLUMN webhook_host VARBINARY(255) NOT NULL DEFAULT ''''',
    'DO 0');
PREPARE todo FROM @todo;
EXECUTE todo;
DEALLOCATE PREPARE todo;

-- What webhooks are to be told. Only triggers insert here, in the transaction of the
-- projection.
CREATE TABLE IF NOT EXISTS webhook_deliveries (
    job          CHAR(30)       CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    version      BIGINT         NOT NULL,
    state        VARCHAR(30)    CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    reason       MEDIUMBLOB     NOT NULL,
    at           BIGINT         NOT NULL,
    host         VARBINARY(255) NOT NULL,
    due_at       BIGINT         NOT NULL DEFAULT 0,
    leased_until BIGINT         NOT NULL DEFAULT 0,
    leased_by    VARBINARY(200) NOT NULL DEFAULT '',
    attempts     BIGINT         NOT NULL DEFAULT 0,
    first_at     BIGINT         NOT NULL DEFAULT 0,      -- time of the first attempt
    status       BIGINT         NOT NULL DEFAULT 0,      -- of HTTP, of the last answer
    error        VARBINARY(600) NOT NULL DEFAULT '',
    outcome      VARCHAR(20)    CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT 'open',
    ended_at     BIGINT         NOT NULL DEFAULT 0,      -- 0: it is open
    PRIMARY KEY (job, version),
    INDEX webhook_deliveries_due (ended_at, host, due_at)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

DROP TRIGGER IF EXISTS webhook_of_submitted;
-- +goose StatementBegin
CREATE TRIGGER webhook_of_submitted AFTER INSERT ON jobs FOR EACH ROW
BEGIN
    IF INSTR(NEW.webhook_on, CONCAT(',', NEW.state, ',')) > 0 THEN
        INSERT INTO webhook_deliveries (job, version, state, reason, at, host)
        VALUES (NEW.id, NEW.version, NEW.state, NEW.reason, NEW.state_at, NEW.webhook_host);
    END IF;
END;
-- +goose StatementEnd
DROP TRIGGER IF EXISTS webhook_of_moved;
-- +goose StatementBegin
CREATE TRIGGER webhook_of_moved AFTER UPDATE ON jobs FOR EACH ROW
BEGIN
    IF NEW.version <> OLD.version AND INSTR(NEW.webhook_on, CONCAT(',', NEW.state, ',')) > 0 THEN
        INSERT INTO webhook_deliveries (job, version, state, reason, at, host)
        VALUES (NEW.id, NEW.version, NEW.state, NEW.reason, NEW.state_at, NEW.webhook_host);
    END IF;
END;
-- +goose StatementEnd

-- With which the requests are signed. They are needed as they are, and shown once.
CREATE TABLE IF NOT EXISTS webhook_secrets (
    tenant     VARCHAR(64)   CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    secret     VARBINARY(64) NOT NULL,
    made_at    BIGINT        NOT NULL,
    expires_at BIGINT        NOT NULL, -- 0: it is the newest
    PRIMARY KEY (tenant, secret)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- +goose Down
DROP TABLE webhook_secrets;
DROP TRIGGER webhook_of_moved;
DROP TRIGGER webhook_of_submitted;
DROP TABLE webhook_deliveries;
ALTER TABLE jobs DROP COLUMN webhook_host, DROP COLUMN webhook_on;
DROP TRIGGER set_changed;
DROP TRIGGER set_made;
DELETE FROM outbox WHERE set_kind <> '';
ALTER TABLE outbox DROP INDEX outbox_by_mark, DROP COLUMN behind, DROP COLUMN changed, DROP COLUMN cardinality, DROP COLUMN set_number, DROP COLUMN set_kind, ADD INDEX outbox_by_mark (published_at, id);
ALTER TABLE member_sets DROP COLUMN changed_at;
