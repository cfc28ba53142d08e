-- Times are nanoseconds since 1970 UTC, digests 32 bytes, account numbers and
-- ids 0 to 4294967295.

-- +goose Up
CREATE TABLE accounts (
    number     INTEGER PRIMARY KEY,
    name       TEXT    NOT NULL UNIQUE,
    created_at INTEGER NOT NULL
);

-- Named numbers that only grow: how far a recorder has read the ledger, and the
-- number below which every account number is taken.
CREATE TABLE marks (
    name  TEXT    PRIMARY KEY,
    value INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE member_sets (
    kind              TEXT    NOT NULL,
    owner             INTEGER NOT NULL,
    revision          INTEGER NOT NULL,
    cardinality       INTEGER NOT NULL,
    snapshot_revision INTEGER NOT NULL, -- 0: there is none
    increments        INTEGER NOT NULL,
    increment_bytes   INTEGER NOT NULL,
    PRIMARY KEY (kind, owner)
) WITHOUT ROWID;

CREATE TABLE member_increments (
    kind        TEXT    NOT NULL,
    owner       INTEGER NOT NULL,
    revision    INTEGER NOT NULL,
    cardinality INTEGER NOT NULL,
    adds        BLOB    NOT NULL,
    removes     BLOB    NOT NULL,
    PRIMARY KEY (kind, owner, revision)
);

CREATE TABLE member_snapshots (
    kind        TEXT    NOT NULL,
    owner       INTEGER NOT NULL,
    revision    INTEGER NOT NULL,
    blob        BLOB    NOT NULL,
    cardinality INTEGER NOT NULL,
    pinned      INTEGER NOT NULL,
    PRIMARY KEY (kind, owner, revision)
) WITHOUT ROWID;

CREATE TABLE packages (
    account     INTEGER NOT NULL,
    name        TEXT    NOT NULL,
    set_digest  BLOB    NOT NULL,
    blob        BLOB    NOT NULL,
    cardinality INTEGER NOT NULL,
    min_id      INTEGER NOT NULL,
    max_id      INTEGER NOT NULL,
    repeated    INTEGER NOT NULL,
    bytes       INTEGER NOT NULL,
    created_at  INTEGER NOT NULL,
    PRIMARY KEY (account, name)
);
CREATE INDEX packages_by_set ON packages (set_digest, account, name);
CREATE INDEX packages_by_time ON packages (created_at, account, name);

CREATE TABLE jobs (
    id           TEXT    PRIMARY KEY,
    version      INTEGER NOT NULL,
    account      INTEGER NOT NULL,
    state        TEXT    NOT NULL,
    ended        INTEGER NOT NULL, -- 1 once the state is terminal
    reason       TEXT    NOT NULL,
    spec         TEXT    NOT NULL, -- JSON
    submitted_at INTEGER NOT NULL,
    state_at     INTEGER NOT NULL,
    counts       TEXT    NOT NULL, -- JSON
    counts_as_of INTEGER NOT NULL  -- ledger sequence; 0: none yet
);
CREATE INDEX jobs_by_time ON jobs (submitted_at, id);
CREATE INDEX jobs_by_account ON jobs (account, submitted_at, id);
CREATE INDEX jobs_by_state ON jobs (state, submitted_at, id);
CREATE INDEX jobs_by_end ON jobs (ended, submitted_at, id);

-- +goose Down
DROP TABLE jobs;
DROP TABLE packages;
DROP TABLE member_snapshots;
DROP TABLE member_increments;
DROP TABLE member_sets;
DROP TABLE marks;
DROP TABLE accounts;
