-- The database's clock as workers saw it last: one that is behind it has gone back since.
ALTER TABLE gateway ADD COLUMN clock_at timestamptz NOT NULL DEFAULT 'epoch';
