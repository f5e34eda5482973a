CREATE TABLE client (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    phone         text NOT NULL CONSTRAINT client_phone_unique UNIQUE CHECK (phone ~ '^7[0-9]{10}$'),
    operator_code text NOT NULL CHECK (operator_code ~ '^[0-9]{3}$'),
    tag           text CHECK (tag <> ''),
    timezone      text NOT NULL,
    opted_out     boolean NOT NULL DEFAULT false,
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now()
);
-- lists and audiences by tag and by operator, in the order of their keyset
CREATE INDEX client_by_tag ON client (tag, id);
CREATE INDEX client_by_operator_code ON client (operator_code, id);

CREATE TABLE mailing (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    text             text NOT NULL,
    starts_at        timestamptz NOT NULL,
    ends_at          timestamptz NOT NULL,
    tags             text[] NOT NULL DEFAULT '{}',
    operator_codes   text[] NOT NULL DEFAULT '{}',
    window_start     time,
    window_end       time,
    status           text NOT NULL DEFAULT 'scheduled'
                     CHECK (status IN ('scheduled', 'running', 'paused', 'finished', 'cancelled')),
    -- the plan is behind while planned_revision < revision
    revision         integer NOT NULL DEFAULT 1,
    planned_revision integer NOT NULL DEFAULT 0,
    -- whoever plans says so with every slice; a plan not touched for a while has lost its worker
    planning_revision integer NOT NULL DEFAULT 0,
    planning_at      timestamptz,
    text_revision    integer NOT NULL DEFAULT 1,
    -- the newest client when the audience was taken; a repeated plan stops there too
    audience_upto    bigint,
    launched_at      timestamptz,
    finished_at      timestamptz,
    deleted_at       timestamptz,
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now(),
    CHECK (starts_at < ends_at),
    CHECK ((window_start IS NULL) = (window_end IS NULL)),
    CHECK (window_start <> window_end),
    CHECK ((launched_at IS NULL) = (status = 'scheduled') OR status IN ('cancelled', 'finished'))
);
-- the sweep: mailings that still have something to do
CREATE INDEX mailing_open ON mailing (id) WHERE status IN ('scheduled', 'running', 'paused');

-- what was sent under each text: an attempt that may have arrived is repeated with the same words
CREATE TABLE mailing_text (
    mailing_id bigint NOT NULL REFERENCES mailing,
    revision   integer NOT NULL,
    text       text NOT NULL,
    PRIMARY KEY (mailing_id, revision)
);

-- No foreign keys from message: a mailing is never deleted for good, a client may go while its messages stay
-- counted, and a check per row would double the time of planning.
CREATE TABLE message (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    mailing_id    bigint NOT NULL,
    client_id     bigint NOT NULL,
    status        text NOT NULL DEFAULT 'pending',
    attempts      integer NOT NULL DEFAULT 0,     -- calls that count, as the API shows them
    attempt_no    integer NOT NULL DEFAULT 0,     -- claims; the fence: a result counts only under its own number
    soft_refusals integer NOT NULL DEFAULT 0,
    ambiguous     boolean NOT NULL DEFAULT false, -- an attempt may have arrived
    due_at        timestamptz NOT NULL,           -- [due_at, closes_at) is when it may be sent
    closes_at     timestamptz NOT NULL,
    waiting       text CHECK (waiting IN ('window', 'retry', 'rate', 'breaker')),
    lease_until   timestamptz,
    phone         text,                           -- as of the newest claim
    text_revision integer,
    finished_at   timestamptz,
    last_error    text,
    -- one message for one client in one mailing; this order also finds a client's messages
    CONSTRAINT message_once UNIQUE (client_id, mailing_id),
    CONSTRAINT message_status CHECK (
        CASE status
            WHEN 'pending' THEN lease_until IS NULL AND finished_at IS NULL
            WHEN 'sending' THEN lease_until IS NOT NULL AND finished_at IS NULL AND phone IS NOT NULL AND attempt_no > 0
            WHEN 'sent' THEN lease_until IS NULL AND finished_at IS NOT NULL AND attempts > 0
            WHEN 'failed' THEN lease_until IS NULL AND finished_at IS NOT NULL AND attempts > 0 AND NOT ambiguous
            WHEN 'cancelled' THEN lease_until IS NULL AND finished_at IS NOT NULL AND NOT ambiguous
            WHEN 'expired' THEN lease_until IS NULL AND finished_at IS NOT NULL AND NOT ambiguous
            WHEN 'unknown' THEN lease_until IS NULL AND finished_at IS NOT NULL AND ambiguous
            ELSE false
        END)
);
-- the claim, and when a mailing is next due
CREATE INDEX message_due ON message (mailing_id, due_at, id) INCLUDE (closes_at) WHERE status = 'pending';
-- the sweep: pending messages whose opening has passed
CREATE INDEX message_closing ON message (mailing_id, closes_at) WHERE status = 'pending';
-- the sweep: leases that ran out
CREATE INDEX message_leased ON message (lease_until) WHERE status = 'sending';
-- a mailing's messages, by status, in keyset order
CREATE INDEX message_listed ON message (mailing_id, status, id);
-- the report of a day; finished_at grows with the heap, so block ranges are enough
CREATE INDEX message_finished ON message USING brin (finished_at) WITH (pages_per_range = 32, autosummarize = on);

CREATE TABLE attempt (
    message_id  bigint NOT NULL,
    number      integer NOT NULL,      -- message.attempt_no at the claim
    started_at  timestamptz NOT NULL,
    duration_ms integer,               -- null: the worker was lost
    outcome     text NOT NULL,
    http_status integer,
    code        bigint,
    reason      text NOT NULL,
    PRIMARY KEY (message_id, number)
);

-- one row a mailing, kept by the triggers below in the transaction that moves the messages; updated often, so its
-- page keeps room for new versions beside the old
CREATE TABLE mailing_counts (
    mailing_id bigint PRIMARY KEY REFERENCES mailing,
    planned    bigint NOT NULL DEFAULT 0,
    pending    bigint NOT NULL DEFAULT 0 CHECK (pending >= 0),
    sending    bigint NOT NULL DEFAULT 0 CHECK (sending >= 0),
    sent       bigint NOT NULL DEFAULT 0 CHECK (sent >= 0),
    failed     bigint NOT NULL DEFAULT 0 CHECK (failed >= 0),
    cancelled  bigint NOT NULL DEFAULT 0 CHECK (cancelled >= 0),
    expired    bigint NOT NULL DEFAULT 0 CHECK (expired >= 0),
    unknown    bigint NOT NULL DEFAULT 0 CHECK (unknown >= 0),
    CHECK (planned = pending + sending + sent + failed + cancelled + expired + unknown)
) WITH (fillfactor = 20);

CREATE FUNCTION mailing_created() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO mailing_counts (mailing_id) VALUES (NEW.id);
    INSERT INTO mailing_text (mailing_id, revision, text) VALUES (NEW.id, NEW.text_revision, NEW.text);
    RETURN NULL;
END $$;
CREATE TRIGGER mailing_created AFTER INSERT ON mailing FOR EACH ROW EXECUTE FUNCTION mailing_created();

CREATE FUNCTION mailing_reworded() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO mailing_text (mailing_id, revision, text) VALUES (NEW.id, NEW.text_revision, NEW.text);
    RETURN NULL;
END $$;
CREATE TRIGGER mailing_reworded AFTER UPDATE OF text_revision ON mailing
    FOR EACH ROW WHEN (NEW.text_revision <> OLD.text_revision) EXECUTE FUNCTION mailing_reworded();

-- The counters follow whatever statement moves messages: they can't be forgotten. Locks are taken in the order of
-- mailings, so two statements over several mailings never wait for each other in a circle.
CREATE FUNCTION count_messages() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    came text := 'SELECT mailing_id, status, 1 AS n FROM added';
    went text := 'SELECT mailing_id, status, -1 AS n FROM removed';
    moves text := CASE TG_OP WHEN 'INSERT' THEN came WHEN 'DELETE' THEN went ELSE came || ' UNION ALL ' || went END;
BEGIN
    EXECUTE 'WITH shift AS MATERIALIZED (
            SELECT mailing_id, sum(n) AS planned,
                   coalesce(sum(n) FILTER (WHERE status = ''pending''), 0) AS pending,
                   coalesce(sum(n) FILTER (WHERE status = ''sending''), 0) AS sending,
                   coalesce(sum(n) FILTER (WHERE status = ''sent''), 0) AS sent,
                   coalesce(sum(n) FILTER (WHERE status = ''failed''), 0) AS failed,
                   coalesce(sum(n) FILTER (WHERE status = ''cancelled''), 0) AS cancelled,
                   coalesce(sum(n) FILTER (WHERE status = ''expired''), 0) AS expired,
                   coalesce(sum(n) FILTER (WHERE status = ''unknown''), 0) AS unknown
            FROM (' || moves || ') AS moves GROUP BY mailing_id
        ), locked AS MATERIALIZED (
            SELECT mailing_id FROM mailing_counts WHERE mailing_id IN (SELECT mailing_id FROM shift)
            ORDER BY mailing_id FOR UPDATE
        )
        UPDATE mailing_counts c SET
            planned = c.planned + s.planned, pending = c.pending + s.pending, sending = c.sending + s.sending,
            sent = c.sent + s.sent, failed = c.failed + s.failed, cancelled = c.cancelled + s.cancelled,
            expired = c.expired + s.expired, unknown = c.unknown + s.unknown
        FROM shift s JOIN locked USING (mailing_id) WHERE c.mailing_id = s.mailing_id';
    RETURN NULL;
END $$;
CREATE TRIGGER count_added AFTER INSERT ON message
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION count_messages();
CREATE TRIGGER count_moved AFTER UPDATE ON message
    REFERENCING NEW TABLE AS added OLD TABLE AS removed FOR EACH STATEMENT EXECUTE FUNCTION count_messages();
CREATE TRIGGER count_removed AFTER DELETE ON message
    REFERENCING OLD TABLE AS removed FOR EACH STATEMENT EXECUTE FUNCTION count_messages();


-- mailing.messages.states.TRANSITIONS, where nobody gets around it: above all, nothing leads out of sent
CREATE FUNCTION check_transitions() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE bad text;
BEGIN
    -- EXECUTE plans anew for the size of each batch, and min() makes the planner think of all rows: a plan kept from a
    -- batch of one, or one that hopes to stop at a first bad row, compares all with all
    EXECUTE 'SELECT min(format(''message %s: %s -> %s'', id, o.status, n.status)) FROM removed o JOIN added n USING (id)
        WHERE o.status <> n.status AND o.status || ''>'' || n.status NOT IN (
            ''pending>sending'', ''pending>cancelled'', ''pending>expired'', ''pending>unknown'',
            ''sending>pending'', ''sending>sent'', ''sending>failed'', ''sending>cancelled'', ''sending>expired'',
            ''sending>unknown'', ''failed>pending'', ''cancelled>pending'', ''expired>pending'',
            ''unknown>pending'', ''unknown>sent'', ''unknown>failed'')' INTO bad;
    IF bad IS NOT NULL THEN
        RAISE EXCEPTION 'no such transition: %', bad USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER check_transitions AFTER UPDATE ON message
    REFERENCING NEW TABLE AS added OLD TABLE AS removed FOR EACH STATEMENT EXECUTE FUNCTION check_transitions();

CREATE TABLE api_key (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name       text NOT NULL,
    hint       text NOT NULL,                      -- the key's first characters, to tell keys apart in a list
    hash       bytea NOT NULL UNIQUE,              -- sha-256; a key is 32 random bytes, so no salt and no slow hash
    created_at timestamptz NOT NULL DEFAULT now(),
    revoked_at timestamptz
);

-- a row for every day since the service first had a recipient, made when the day is over
CREATE TABLE report (
    day          date PRIMARY KEY,                 -- the local day it tells about, in the report's time zone
    key          uuid NOT NULL DEFAULT gen_random_uuid(), -- in the Message-ID: the same for every try of this day
    due_at       timestamptz NOT NULL,             -- not tried earlier
    lease_until  timestamptz,                      -- a try is under way until then
    tries        integer NOT NULL DEFAULT 0,       -- also the fence: a failure counts only under its own number
    delivered_to text[] NOT NULL DEFAULT '{}',     -- recipients for whom the mail server took it
    refused      boolean NOT NULL DEFAULT false,   -- the newest try was refused for good: it holds no other day back
    sent_at      timestamptz,
    last_error   text,
    CHECK (sent_at IS NULL OR lease_until IS NULL)
);
