-- A report tells about [starts, ends), as it was when its row was made: the next begins there, whatever becomes of the
-- reports' time zone. NULL, all three, until a worker has taken over the row of an earlier version.
ALTER TABLE report
    ADD COLUMN zone text,
    ADD COLUMN starts timestamptz,
    ADD COLUMN ends timestamptz,
    ADD CONSTRAINT report_period CHECK (num_nulls(zone, starts, ends) IN (0, 3) AND starts < ends),
    ADD CONSTRAINT report_once EXCLUDE USING gist (tstzrange(starts, ends) WITH &&) WHERE (starts IS NOT NULL);

-- NULL: made by the command line. Of keys that there are already the event of the same transaction knows it.
ALTER TABLE api_key ADD COLUMN created_by bigint REFERENCES user_account (id);

UPDATE api_key SET created_by = u.id
FROM event e JOIN user_account u ON u.id::text = substring(e.actor FROM '^user (\d+) \(')
WHERE e.at = api_key.created_at AND e.kind = 'key.created'
  AND e.mailing_id IS NULL AND e.message_id IS NULL AND e.client_id IS NULL;
