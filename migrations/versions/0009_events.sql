-- a mailing's attempts in the order of time; rows are added at the end of each mailing's part of the index
ALTER TABLE attempt ADD COLUMN mailing_id bigint;
UPDATE attempt a SET mailing_id = m.mailing_id FROM message m WHERE m.id = a.message_id;
ALTER TABLE attempt ALTER COLUMN mailing_id SET NOT NULL;
CREATE INDEX attempt_of_mailing ON attempt (mailing_id, started_at, message_id, number);

ALTER TABLE event ADD COLUMN request_id text; -- the request's, as in the log

-- everything about one id in the order of time, and the page after a given moment
DROP INDEX event_of_mailing, event_of_message, event_of_client;
CREATE INDEX event_of_mailing ON event (mailing_id, at, id) WHERE mailing_id IS NOT NULL;
CREATE INDEX event_of_message ON event (message_id, at, id) WHERE message_id IS NOT NULL;
CREATE INDEX event_of_client ON event (client_id, at, id) WHERE client_id IS NOT NULL;
-- what a message has in common with its whole mailing, without the events of a million other messages
CREATE INDEX event_of_audience ON event (mailing_id, at, id) WHERE mailing_id IS NOT NULL AND message_id IS NULL;
-- what concerns every mailing: the gateway stopped, the database resumed
CREATE INDEX event_of_all ON event (at, id) WHERE mailing_id IS NULL AND message_id IS NULL AND client_id IS NULL;
