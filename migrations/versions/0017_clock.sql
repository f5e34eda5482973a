-- The database's clock as workers saw it last: one that is behind it has gone back since.
ALTER TABLE gateway ADD COLUMN clock_at timestamptz NOT NULL DEFAULT 'epoch';

-- Why an import of an upload broke off the last time; it is begun again by itself.
ALTER TABLE upload ADD COLUMN broke_off text;
