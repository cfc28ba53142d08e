-- +goose Up
-- The names of segments; their sets are in member_sets, by number. A number is never
-- used again.
CREATE TABLE IF NOT EXISTS segments (
    number      BIGINT         NOT NULL PRIMARY KEY,
    name        VARBINARY(128) NOT NULL UNIQUE,
    created_at  BIGINT         NOT NULL,
    archived_at BIGINT         NOT NULL -- 0: it is not
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;


-- What decides who is in an account's control group. A row is never changed. An account
-- that was made before there was this table gets its own when it is first asked for.
CREATE TABLE IF NOT EXISTS account_salts (
    account BIGINT     NOT NULL PRIMARY KEY,
    salt    BINARY(32) NOT NULL
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- +goose Down
DROP TABLE account_salts;
DROP TABLE segments;
