-- Tenants, their keys, and the audit log. What is there belongs to the default tenant.
-- MySQL has no ADD COLUMN IF NOT EXISTS: what is to be done is looked up first, so that
-- this can be run again.

-- +goose Up
SET @todo = IF((SELECT COUNT(*) FROM information_schema.columns
    WHERE table_schema = DATABASE() AND table_name = 'accounts' AND column_name = 'tenant') = 0,
    'ALTER TABLE accounts ADD COLUMN tenant VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT ''default'', DROP INDEX name, ADD UNIQUE INDEX accounts_by_name (tenant, name)',
    'DO 0');
PREPARE todo FROM @todo;
EXECUTE todo;
DEALLOCATE PREPARE todo;
SET @todo = IF((SELECT COUNT(*) FROM information_schema.columns
    WHERE table_schema = DATABASE() AND table_name = 'jobs' AND column_name = 'tenant') = 0,
    'ALTER TABLE jobs ADD COLUMN tenant VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT ''default'', ADD INDEX jobs_by_tenant (tenant, submitted_at, id)',
    'DO 0');
PREPARE todo FROM @todo;
EXECUTE todo;
DEALLOCATE PREPARE todo;

-- "change_no" is the number of the change that made a row what it is, from the mark
-- access.change: who has read up to one asks for what came later.
CREATE TABLE IF NOT EXISTS tenants (
    name       VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
    created_at BIGINT      NOT NULL,
    limits     TEXT        NOT NULL, -- JSON
    change_no  BIGINT      NOT NULL,
    INDEX tenants_by_change (change_no)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
INSERT IGNORE INTO marks (name, value) VALUES ('access.change', 1);
INSERT IGNORE INTO tenants (name, created_at, limits, change_no) VALUES ('default', 0, '{}', 1);

CREATE TABLE IF NOT EXISTS access_keys (
    id         VARCHAR(64)    CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
    hash       BINARY(32)     NOT NULL UNIQUE, -- SHA-256 of the key, which is kept nowhere
    name       VARBINARY(200) NOT NULL,
    role       VARCHAR(20)    CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    tenant     VARCHAR(64)    CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    recipient  BIGINT         NULL,            -- of a device's key
    created_at BIGINT         NOT NULL,
    created_by VARCHAR(64)    CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    used_at    BIGINT         NOT NULL,        -- to the minute, 0: never
    revoked_at BIGINT         NOT NULL,        -- 0: in force
    change_no  BIGINT         NOT NULL,
    INDEX access_keys_by_change (change_no),
    INDEX access_keys_by_tenant (tenant, id)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS audit (
    seq       BIGINT         NOT NULL AUTO_INCREMENT PRIMARY KEY,
    id        VARCHAR(100)   CHARACTER SET ascii COLLATE ascii_bin NOT NULL UNIQUE, -- of the act: one act has one row
    at        BIGINT         NOT NULL,
    tenant    VARCHAR(64)    CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    key_id    VARCHAR(64)    CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    key_name  VARBINARY(200) NOT NULL,
    operation VARCHAR(64)    CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    object    VARBINARY(300) NOT NULL,
    result    VARCHAR(64)    CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    reason    VARBINARY(600) NOT NULL,
    request   VARCHAR(64)    CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    INDEX audit_by_tenant (tenant, seq),
    INDEX audit_by_key (key_id, seq),
    INDEX audit_by_object (object, seq)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

DROP TRIGGER IF EXISTS audit_stays;
-- +goose StatementBegin
CREATE TRIGGER audit_stays BEFORE UPDATE ON audit FOR EACH ROW
BEGIN
    SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'the audit log is only appended to';
END;
-- +goose StatementEnd
DROP TRIGGER IF EXISTS audit_is_kept;
-- +goose StatementBegin
CREATE TRIGGER audit_is_kept BEFORE DELETE ON audit FOR EACH ROW
BEGIN
    SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'the audit log is only appended to';
END;
-- +goose StatementEnd

-- +goose Down
DROP TRIGGER audit_is_kept;
DROP TRIGGER audit_stays;
DROP TABLE audit;
DROP TABLE access_keys;
DROP TABLE tenants;
DELETE FROM marks WHERE name = 'access.change';
ALTER TABLE jobs DROP INDEX jobs_by_tenant, DROP COLUMN tenant;
ALTER TABLE accounts DROP INDEX accounts_by_name, DROP COLUMN tenant, ADD UNIQUE INDEX name (name);
