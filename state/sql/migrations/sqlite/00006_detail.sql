-- +goose Up
-- What an act changed its object to, such as a rate.
ALTER TABLE audit ADD COLUMN detail TEXT NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE audit DROP COLUMN detail;
