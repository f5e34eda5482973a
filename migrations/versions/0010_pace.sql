-- messages that went out, by minute: the pace of a mailing now, and its course in the charts
CREATE TABLE mailing_pace (
    mailing_id bigint NOT NULL,
    minute     timestamptz NOT NULL,
    sent       integer NOT NULL,
    PRIMARY KEY (mailing_id, minute)
) WITH (fillfactor = 50);
-- the last day of all mailings, and pruning
CREATE INDEX mailing_pace_minute ON mailing_pace (minute);

-- Fires after count_moved, in the order of names: the mailing's counters are locked by then, so nobody waits here.
-- What a person resolves as sent did not go out in that minute; no statement moves calls and resolutions together, so
-- a look at one old row tells them apart, without a join.
CREATE FUNCTION note_pace() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE 'INSERT INTO mailing_pace AS p (mailing_id, minute, sent)
        SELECT n.mailing_id, date_trunc(''minute'', now()), count(*) FROM added n
        WHERE n.status = ''sent'' AND EXISTS (SELECT FROM removed WHERE status = ''sending'') GROUP BY n.mailing_id
        ON CONFLICT (mailing_id, minute) DO UPDATE SET sent = p.sent + excluded.sent';
    RETURN NULL;
END $$;
CREATE TRIGGER note_pace AFTER UPDATE ON message
    REFERENCING NEW TABLE AS added OLD TABLE AS removed FOR EACH STATEMENT EXECUTE FUNCTION note_pace();

-- what a mailing's messages wait for: from opening to opening, without reading those in between
CREATE INDEX message_waiting ON message (mailing_id, waiting, due_at) WHERE status = 'pending' AND waiting IS NOT NULL;

-- the newest calls
CREATE INDEX attempt_newest ON attempt (started_at);
