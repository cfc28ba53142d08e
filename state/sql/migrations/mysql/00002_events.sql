-- +goose Up
CREATE TABLE IF NOT EXISTS slices (
    job     CHAR(30)       CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    number  BIGINT         NOT NULL,
    version BIGINT         NOT NULL,
    state   VARCHAR(30)    CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    worker  VARBINARY(200) NOT NULL,
    epoch   BIGINT         NOT NULL,
    since   BIGINT         NOT NULL,
    PRIMARY KEY (job, number)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- What happened and is to be published. Only triggers insert here, in the
-- transaction of the projection.
CREATE TABLE IF NOT EXISTS outbox (
    id           BIGINT        NOT NULL AUTO_INCREMENT PRIMARY KEY,
    job          CHAR(30)      CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    slice        BIGINT        NULL,               -- NULL: the job itself
    version      BIGINT        NOT NULL,
    state        VARCHAR(30)   CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    reason       MEDIUMBLOB    NOT NULL,
    at           BIGINT        NOT NULL,
    published_at BIGINT        NOT NULL DEFAULT 0, -- 0: not yet
    leased_until BIGINT        NOT NULL DEFAULT 0,
    leased_by    VARBINARY(200) NOT NULL DEFAULT '',
    INDEX outbox_by_mark (published_at, id)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

DROP TRIGGER IF EXISTS job_submitted;
-- +goose StatementBegin
CREATE TRIGGER job_submitted AFTER INSERT ON jobs FOR EACH ROW
BEGIN
    INSERT INTO outbox (job, version, state, reason, at)
    VALUES (NEW.id, NEW.version, NEW.state, NEW.reason, NEW.state_at);
END;
-- +goose StatementEnd
DROP TRIGGER IF EXISTS job_moved;
-- +goose StatementBegin
CREATE TRIGGER job_moved AFTER UPDATE ON jobs FOR EACH ROW
BEGIN
    IF NEW.version <> OLD.version THEN
        INSERT INTO outbox (job, version, state, reason, at)
        VALUES (NEW.id, NEW.version, NEW.state, NEW.reason, NEW.state_at);
    END IF;
END;
-- +goose StatementEnd
DROP TRIGGER IF EXISTS slice_planned;
-- +goose StatementBegin
CREATE TRIGGER slice_planned AFTER INSERT ON slices FOR EACH ROW
BEGIN
    INSERT INTO outbox (job, slice, version, state, reason, at)
    VALUES (NEW.job, NEW.number, NEW.version, NEW.state, '', NEW.since);
END;
-- +goose StatementEnd
DROP TRIGGER IF EXISTS slice_moved;
-- +goose StatementBegin
CREATE TRIGGER slice_moved AFTER UPDATE ON slices FOR EACH ROW
BEGIN
    IF NEW.version <> OLD.version THEN
        INSERT INTO outbox (job, slice, version, state, reason, at)
        VALUES (NEW.job, NEW.number, NEW.version, NEW.state, '', NEW.since);
    END IF;
END;
-- +goose StatementEnd

-- +goose Down
DROP TRIGGER slice_moved;
DROP TRIGGER slice_planned;
DROP TRIGGER job_moved;
DROP TRIGGER job_submitted;
DROP TABLE outbox;
DROP TABLE slices;
