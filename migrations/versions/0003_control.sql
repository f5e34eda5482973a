-- Where this database lives: cluster, timeline, database, table. A restored backup finds itself elsewhere; so does a
-- promoted replica, which may have lost what the old primary had committed.
CREATE FUNCTION database_home() RETURNS text STABLE LANGUAGE sql AS $$
    SELECT concat_ws('/', (SELECT system_identifier FROM pg_control_system()),
        left(pg_walfile_name(pg_current_wal_lsn()), 8),
        (SELECT oid FROM pg_database WHERE datname = current_database()), 'message'::regclass::oid)
$$;

-- What all workers share towards the gateway: one row
CREATE TABLE gateway (
    only_row        boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    rate            double precision NOT NULL DEFAULT 0 CHECK (rate >= 0), -- calls per second, all workers; 0: no limit
    configured_rate double precision NOT NULL DEFAULT 0,  -- what the settings said last: a new value there becomes the rate
    next_slot_at    timestamptz NOT NULL DEFAULT '-infinity', -- slots before it are given away
    throttled_until timestamptz NOT NULL DEFAULT '-infinity', -- the gateway asked for a pause
    open_since      timestamptz,                          -- the breaker; null: closed
    open_reason     text,
    next_probe_at   timestamptz,
    counted_from    timestamptz NOT NULL DEFAULT '-infinity', -- older calls don't speak for or against the gateway
    stopped_at      timestamptz,                          -- an operator's stop of all sending
    stopped_by      text,
    home            text NOT NULL DEFAULT database_home(), -- elsewhere than database_home(): restored, nothing is sent
    CHECK ((open_since IS NULL) = (open_reason IS NULL) AND (open_since IS NULL) = (next_probe_at IS NULL)),
    CHECK ((stopped_at IS NULL) = (stopped_by IS NULL))
) WITH (fillfactor = 20);
INSERT INTO gateway DEFAULT VALUES;

-- In a restored database no message gets an id: it may have been used since the backup.
CREATE FUNCTION refuse_ids() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT home <> database_home() FROM gateway) THEN
        RAISE EXCEPTION 'the database was restored from a backup; run mailing resume-after-restore'
            USING ERRCODE = 'read_only_sql_transaction';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER refuse_ids BEFORE INSERT ON message FOR EACH STATEMENT EXECUTE FUNCTION refuse_ids();

-- each time that sending was resumed in a restored database; an unfinished one is taken up again at the same place
CREATE TABLE restoration (
    began_at    timestamptz PRIMARY KEY DEFAULT now(),
    place       text NOT NULL,
    finished_at timestamptz
);

-- calls of all workers in periods of five seconds, kept for half a minute
CREATE TABLE gateway_calls (
    period timestamptz PRIMARY KEY,
    calls  integer NOT NULL,
    failed integer NOT NULL CHECK (failed <= calls)
) WITH (fillfactor = 50);

-- a test send is a mailing of its own with one message, outside lists and statistics
ALTER TABLE mailing ADD COLUMN test_of bigint REFERENCES mailing;

-- what people and programs did, and who
CREATE TABLE event (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at         timestamptz NOT NULL DEFAULT now(),
    kind       text NOT NULL,                              -- such as mailing.paused, message.resolved, gateway.stopped
    actor      text NOT NULL,                              -- such as key 3 (crm)
    mailing_id bigint,
    message_id bigint,
    client_id  bigint,
    detail     jsonb NOT NULL DEFAULT '{}'                 -- no phone, no text, no secret
);
-- everything about one id, in order
CREATE INDEX event_of_mailing ON event (mailing_id, id) WHERE mailing_id IS NOT NULL;
CREATE INDEX event_of_message ON event (message_id, id) WHERE message_id IS NOT NULL;
CREATE INDEX event_of_client ON event (client_id, id) WHERE client_id IS NOT NULL;

-- answers to POSTs that carried an Idempotency-Key, stored with the change itself
CREATE TABLE idempotency_key (
    caller     text NOT NULL,                              -- keys of one caller don't meet another's
    key        text NOT NULL,
    request    bytea NOT NULL,                             -- sha-256 of method, path, query, content type and body
    status     integer NOT NULL,
    headers    jsonb NOT NULL,
    body       bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (caller, key)
);
-- pruning begins with the oldest: 19 pages read when none is due, of 300,000 keys; a BRIN index reads 5,600, because the
-- ranges written since the last VACUUM have no summary
CREATE INDEX idempotency_key_age ON idempotency_key (created_at);
