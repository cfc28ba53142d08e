-- +goose Up
-- "blob" is a word of MySQL's.
ALTER TABLE packages RENAME COLUMN blob TO blob_digest;
ALTER TABLE member_snapshots RENAME COLUMN blob TO blob_digest;

CREATE TABLE slices (
    job     TEXT    NOT NULL,
    number  INTEGER NOT NULL,
    version INTEGER NOT NULL,
    state   TEXT    NOT NULL,
    worker  TEXT    NOT NULL,
    epoch   INTEGER NOT NULL,
    since   INTEGER NOT NULL,
    PRIMARY KEY (job, number)
) WITHOUT ROWID;

-- What happened and is to be published. Only triggers insert here, in the
-- transaction of the projection.
CREATE TABLE outbox (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    job          TEXT    NOT NULL,
    slice        INTEGER,                     -- NULL: the job itself
    version      INTEGER NOT NULL,
    state        TEXT    NOT NULL,
    reason       TEXT    NOT NULL,
    at           INTEGER NOT NULL,
    published_at INTEGER NOT NULL DEFAULT 0,  -- 0: not yet
    leased_until INTEGER NOT NULL DEFAULT 0,
    leased_by    TEXT    NOT NULL DEFAULT ''
);
CREATE INDEX outbox_by_mark ON outbox (published_at, id);

-- +goose StatementBegin
CREATE TRIGGER job_submitted AFTER INSERT ON jobs
BEGIN
    INSERT INTO outbox (job, version, state, reason, at)
    VALUES (NEW.id, NEW.version, NEW.state, NEW.reason, NEW.state_at);
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER job_moved AFTER UPDATE OF version ON jobs WHEN NEW.version <> OLD.version
BEGIN
    INSERT INTO outbox (job, version, state, reason, at)
    VALUES (NEW.id, NEW.version, NEW.state, NEW.reason, NEW.state_at);
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER slice_planned AFTER INSERT ON slices
BEGIN
    INSERT INTO outbox (job, slice, version, state, reason, at)
    VALUES (NEW.job, NEW.number, NEW.version, NEW.state, '', NEW.since);
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER slice_moved AFTER UPDATE OF version ON slices WHEN NEW.version <> OLD.version
BEGIN
    INSERT INTO outbox (job, slice, version, state, reason, at)
    VALUES (NEW.job, NEW.number, NEW.version, NEW.state, '', NEW.since);
END;
-- +goose StatementEnd

-- +goose Down
DROP TRIGGER slice_moved;
DROP TRIGGER slice_planned;
DROP TRIGGER job_moved;
DROP TRIGGER job_submitted;
DROP TABLE outbox;
DROP TABLE slices;
ALTER TABLE member_snapshots RENAME COLUMN blob_digest TO blob;
ALTER TABLE packages RENAME COLUMN blob_digest TO blob;
