-- The tables are those of SQLite. Times are nanoseconds since 1970 UTC, digests 32
-- bytes, account numbers and ids 0 to 4294967295. Names are VARBINARY, which compares
-- byte by byte and, unlike utf8mb4_bin, does not pass over blanks at the end. MySQL
-- commits each statement that makes a table: a migration that died half-way is run
-- again, so each statement does nothing where its work is done.

-- +goose Up
CREATE TABLE IF NOT EXISTS accounts (
    number     BIGINT         NOT NULL PRIMARY KEY,
    name       VARBINARY(100) NOT NULL UNIQUE,
    created_at BIGINT         NOT NULL
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS marks (
    name  VARBINARY(200)  NOT NULL PRIMARY KEY,
    value BIGINT UNSIGNED NOT NULL
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- It is there from the start, so that it can be locked.
INSERT IGNORE INTO marks (name, value) VALUES ('accounts.next', 0);

CREATE TABLE IF NOT EXISTS member_sets (
    kind              VARCHAR(20) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    owner             BIGINT      NOT NULL,
    revision          BIGINT      NOT NULL,
    cardinality       BIGINT      NOT NULL,
    snapshot_revision BIGINT      NOT NULL, -- 0: there is none
    increments        BIGINT      NOT NULL,
    increment_bytes   BIGINT      NOT NULL,
    PRIMARY KEY (kind, owner)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS member_increments (
    kind        VARCHAR(20) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    owner       BIGINT      NOT NULL,
    revision    BIGINT      NOT NULL,
    cardinality BIGINT      NOT NULL,
    adds        LONGBLOB    NOT NULL,
    removes     LONGBLOB    NOT NULL,
    PRIMARY KEY (kind, owner, revision)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS member_snapshots (
    kind        VARCHAR(20) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    owner       BIGINT      NOT NULL,
    revision    BIGINT      NOT NULL,
    blob_digest BINARY(32)  NOT NULL,
    cardinality BIGINT      NOT NULL,
    pinned      TINYINT     NOT NULL,
    PRIMARY KEY (kind, owner, revision)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS packages (
    account     BIGINT         NOT NULL,
    name        VARBINARY(500) NOT NULL,
    set_digest  BINARY(32)     NOT NULL,
    blob_digest BINARY(32)     NOT NULL,
    cardinality BIGINT         NOT NULL,
    min_id      BIGINT         NOT NULL,
    max_id      BIGINT         NOT NULL,
    repeated    BIGINT         NOT NULL,
    bytes       BIGINT         NOT NULL,
    created_at  BIGINT         NOT NULL,
    PRIMARY KEY (account, name),
    INDEX packages_by_set (set_digest, account, name),
    INDEX packages_by_time (created_at, account, name)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS jobs (
    id           CHAR(30)    CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
    version      BIGINT      NOT NULL,
    account      BIGINT      NOT NULL,
    state        VARCHAR(30) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    ended        TINYINT     NOT NULL, -- 1 once the state is terminal
    reason       MEDIUMBLOB  NOT NULL,
    spec         MEDIUMTEXT  NOT NULL, -- JSON
    submitted_at BIGINT      NOT NULL,
    state_at     BIGINT      NOT NULL,
    counts       MEDIUMTEXT  NOT NULL, -- JSON
    counts_as_of BIGINT      NOT NULL, -- ledger sequence; 0: none yet
    INDEX jobs_by_time (submitted_at, id),
    INDEX jobs_by_account (account, submitted_at, id),
    INDEX jobs_by_state (state, submitted_at, id),
    INDEX jobs_by_end (ended, submitted_at, id)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- +goose Down
DROP TABLE jobs;
DROP TABLE packages;
DROP TABLE member_snapshots;
DROP TABLE member_increments;
DROP TABLE member_sets;
DROP TABLE marks;
DROP TABLE accounts;
