-- MySQL has no ADD COLUMN IF NOT EXISTS: what is to be done is looked up first, so that
-- this can be run again.

-- +goose Up
-- What an act changed its object to, such as a rate.
SET @todo = IF((SELECT COUNT(*) FROM information_schema.columns
    WHERE table_schema = DATABASE() AND table_name = 'audit' AND column_name = 'detail') = 0,
    'ALTER TABLE audit ADD COLUMN detail VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT ''''',
    'DO 0');
PREPARE todo FROM @todo;
EXECUTE todo;
DEALLOCATE PREPARE todo;

-- +goose Down
ALTER TABLE audit DROP COLUMN detail;
