-- Tenants, their keys, and the audit log. What is there belongs to the default tenant.

-- +goose Up
-- Names of accounts are unique in a tenant; a constraint cannot be taken from a table.
CREATE TABLE accounts_of_tenants (
    number     INTEGER PRIMARY KEY,
    tenant     TEXT    NOT NULL DEFAULT 'default',
    name       TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    UNIQUE (tenant, name)
);
INSERT INTO accounts_of_tenants (number, tenant, name, created_at) SELECT number, 'default', name, created_at FROM accounts;
DROP TABLE accounts;
ALTER TABLE accounts_of_tenants RENAME TO accounts;

ALTER TABLE jobs ADD COLUMN tenant TEXT NOT NULL DEFAULT 'default';
CREATE INDEX jobs_by_tenant ON jobs (tenant, submitted_at, id);

-- "change_no" is the number of the change that made a row what it is, from the mark
-- access.change: who has read up to one asks for what came later.
CREATE TABLE tenants (
    name       TEXT    PRIMARY KEY,
    created_at INTEGER NOT NULL,
    limits     TEXT    NOT NULL, -- JSON
    change_no  INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX tenants_by_change ON tenants (change_no);
INSERT INTO marks (name, value) VALUES ('access.change', 1);
INSERT INTO tenants (name, created_at, limits, change_no) VALUES ('default', 0, '{}', 1);

CREATE TABLE access_keys (
    id         TEXT    PRIMARY KEY,
    hash       BLOB    NOT NULL UNIQUE, -- SHA-256 of the key, which is kept nowhere
    name       TEXT    NOT NULL,
    role       TEXT    NOT NULL,
    tenant     TEXT    NOT NULL,
    recipient  INTEGER,                 -- of a device's key
    created_at INTEGER NOT NULL,
    created_by TEXT    NOT NULL,
    used_at    INTEGER NOT NULL,        -- to the minute, 0: never
    revoked_at INTEGER NOT NULL,        -- 0: in force
    change_no  INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX access_keys_by_change ON access_keys (change_no);
CREATE INDEX access_keys_by_tenant ON access_keys (tenant, id);

CREATE TABLE audit (
    seq       INTEGER PRIMARY KEY AUTOINCREMENT,
    id        TEXT    NOT NULL UNIQUE, -- of the act: one act has one row
    at        INTEGER NOT NULL,
    tenant    TEXT    NOT NULL,
    key_id    TEXT    NOT NULL,
    key_name  TEXT    NOT NULL,
    operation TEXT    NOT NULL,
    object    TEXT    NOT NULL,
    result    TEXT    NOT NULL,
    reason    TEXT    NOT NULL,
    request   TEXT    NOT NULL
);
CREATE INDEX audit_by_tenant ON audit (tenant, seq);
CREATE INDEX audit_by_key ON audit (key_id, seq);
CREATE INDEX audit_by_object ON audit (object, seq);

-- +goose StatementBegin
CREATE TRIGGER audit_stays BEFORE UPDATE ON audit
BEGIN
    SELECT RAISE(ABORT, 'the audit log is only appended to');
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER audit_is_kept BEFORE DELETE ON audit
BEGIN
    SELECT RAISE(ABORT, 'the audit log is only appended to');
END;
-- +goose StatementEnd

-- +goose Down
DROP TRIGGER audit_is_kept;
DROP TRIGGER audit_stays;
DROP TABLE audit;
DROP TABLE access_keys;
DROP TABLE tenants;
DELETE FROM marks WHERE name = 'access.change';
DROP INDEX jobs_by_tenant;
ALTER TABLE jobs DROP COLUMN tenant;
CREATE TABLE accounts_of_all (
    number     INTEGER PRIMARY KEY,
    name       TEXT    NOT NULL UNIQUE,
    created_at INTEGER NOT NULL
);
INSERT INTO accounts_of_all (number, name, created_at) SELECT number, name, created_at FROM accounts;
DROP TABLE accounts;
ALTER TABLE accounts_of_all RENAME TO accounts;
