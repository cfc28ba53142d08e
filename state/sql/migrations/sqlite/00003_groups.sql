-- +goose Up
-- The names of segments; their sets are in member_sets, by number. A number is never
-- used again.
CREATE TABLE segments (
    number      INTEGER PRIMARY KEY,
    name        TEXT    NOT NULL UNIQUE,
    created_at  INTEGER NOT NULL,
    archived_at INTEGER NOT NULL -- 0: it is not
);

-- What decides who is in an account's control group. A row is never changed. An account
-- that was made before there was this table gets its own when it is first asked for.
CREATE TABLE account_salts (
    account INTEGER PRIMARY KEY,
    salt    BLOB    NOT NULL
);

-- +goose Down
DROP TABLE account_salts;
DROP TABLE segments;
