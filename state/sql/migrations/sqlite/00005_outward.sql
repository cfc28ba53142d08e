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

-- States of which a job's webhook is told, each between commas, and its host.
ALTER TABLE jobs ADD COLUMN webhook_on TEXT NOT NULL DEFAULT '';
ALTER TABLE jobs ADD COLUMN webhook_host TEXT NOT NULL DEFAULT '';

-- What webhooks are to be told. Only triggers insert here, in the transaction of the
-- projection.
CREATE TABLE webhook_deliveries (
    job          TEXT    NOT NULL,
    version      INTEGER NOT NULL,
    state        TEXT    NOT NULL,
    reason       TEXT    NOT NULL,
    at           INTEGER NOT NULL,
    host         TEXT    NOT NULL,
    due_at       INTEGER NOT NULL DEFAULT 0,
    leased_until INTEGER NOT NULL DEFAULT 0,
    leased_by    TEXT    NOT NULL DEFAULT '',
    attempts     INTEGER NOT NULL DEFAULT 0,
    first_at     INTEGER NOT NULL DEFAULT 0,      -- time of the first attempt
    status       INTEGER NOT NULL DEFAULT 0,      -- of HTTP, of the last answer
    error        TEXT    NOT NULL DEFAULT '',
    outcome      TEXT    NOT NULL DEFAULT 'open',
    ended_at     INTEGER NOT NULL DEFAULT 0,      -- 0: it is open
    PRIMARY KEY (job, version)
) WITHOUT ROWID;
CREATE INDEX webhook_deliveries_due ON webhook_deliveries (ended_at, host, due_at);

-- +goose StatementBegin
CREATE TRIGGER webhook_of_submitted AFTER INSERT ON jobs WHEN instr(NEW.webhook_on, ',' || NEW.state || ',') > 0
BEGIN
    INSERT INTO webhook_deliveries (job, version, state, reason, at, host)
    VALUES (NEW.id, NEW.version, NEW.state, NEW.reason, NEW.state_at, NEW.webhook_host);
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER webhook_of_moved AFTER UPDATE OF version ON jobs WHEN NEW.version <> OLD.version AND instr(NEW.webhook_on, ',' || NEW.state || ',') > 0
BEGIN
    INSERT INTO webhook_deliveries (job, version, state, reason, at, host)
    VALUES (NEW.id, NEW.version, NEW.state, NEW.reason, NEW.state_at, NEW.webhook_host);
END;
-- +goose StatementEnd

-- With which the requests are signed. They are needed as they are, and shown once.
CREATE TABLE webhook_secrets (
    tenant     TEXT    NOT NULL,
    secret     BLOB    NOT NULL,
    made_at    INTEGER NOT NULL,
    expires_at INTEGER NOT NULL, -- 0: it is the newest
    PRIMARY KEY (tenant, secret)
) WITHOUT ROWID;

-- +goose Down
DROP TABLE webhook_secrets;
DROP TRIGGER webhook_of_moved;
DROP TRIGGER webhook_of_submitted;
DROP TABLE webhook_deliveries;
ALTER TABLE jobs DROP COLUMN webhook_host;
ALTER TABLE jobs DROP COLUMN webhook_on;
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
