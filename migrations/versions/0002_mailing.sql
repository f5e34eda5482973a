-- The schema of Mailing, in reading order: clients, mailings, messages and what follows them by trigger, receipts, the
-- installation, the gateway, users and their access, events, uploads, reports, erasures, suppressions, former phones.
--
-- Every table, index and trigger has a comment in the catalogue (\d+ in psql shows it): a table's says what a row is, an
-- index's which statement it serves, a trigger's what it keeps true.


-- Clients -------------------------------------------------------------------------------------------------------------

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
COMMENT ON TABLE client IS 'A person who may receive messages.';
COMMENT ON CONSTRAINT client_phone_unique ON client IS 'One client a phone; imports look clients up by it.';

CREATE INDEX client_by_tag ON client (tag, id);
COMMENT ON INDEX client_by_tag IS 'Lists and audiences by tag, in keyset order.';

CREATE INDEX client_by_operator_code ON client (operator_code, id);
COMMENT ON INDEX client_by_operator_code IS 'Lists and audiences by operator code, in keyset order.';

CREATE INDEX client_by_timezone ON client (timezone, id);
COMMENT ON INDEX client_by_timezone IS 'The search by time zone, in keyset order.';

CREATE INDEX client_by_phone_end ON client (reverse(phone));
COMMENT ON INDEX client_by_phone_end IS 'The search by the last digits of a phone.';

CREATE INDEX client_opted_out ON client (id) WHERE opted_out;
COMMENT ON INDEX client_opted_out IS 'The search for clients who opted out, in keyset order.';

-- After all rows were deleted, the planner takes a table for empty, however full it is again, until autovacuum has
-- analyzed it. Each join with it then compares all with all: 20,000 clients or messages took minutes. Only the owner may
-- analyze. A transaction that does so at the same moment is not waited for.
CREATE FUNCTION analyze_refilled() RETURNS void LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    IF (SELECT reltuples = 0 FROM pg_class WHERE oid = 'client'::regclass) THEN
        ANALYZE (SKIP_LOCKED) client;
    END IF;
    IF (SELECT reltuples = 0 FROM pg_class WHERE oid = 'message'::regclass) THEN
        ANALYZE (SKIP_LOCKED) message;
    END IF;
END $$;


-- Mailings ------------------------------------------------------------------------------------------------------------

CREATE TABLE mailing (
    id                     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    text                   text NOT NULL,
    text_revision          integer NOT NULL DEFAULT 1,   -- of mailing_text
    starts_at              timestamptz NOT NULL,
    ends_at                timestamptz NOT NULL,
    tags                   text[] NOT NULL DEFAULT '{}', -- empty: all clients
    operator_codes         text[] NOT NULL DEFAULT '{}',
    window_start           time,                         -- [window_start, window_end), local time of the client
    window_end             time,
    status                 text NOT NULL DEFAULT 'draft'
                           CHECK (status IN ('draft', 'scheduled', 'running', 'paused', 'finished', 'cancelled')),
    -- A release covers everything that decides what is sent: text, times, local hours and filter. Each change of one of
    -- them adds one to content_revision; a mailing with another revision than the released one is a draft.
    content_revision       integer NOT NULL DEFAULT 1,
    released_revision      integer,
    released_at            timestamptz,
    released_by            text,
    -- The plan is behind while planned_revision < plan_revision. A worker that plans updates the heartbeat with every
    -- slice; a plan whose heartbeat is old has lost its worker.
    plan_revision          integer NOT NULL DEFAULT 1,
    planned_revision       integer NOT NULL DEFAULT 0,
    planning_revision      integer NOT NULL DEFAULT 0,
    plan_heartbeat_at      timestamptz,
    timezone_rules         text COLLATE "C",             -- the version by which its send windows are computed
    audience_max_client_id bigint,                       -- the newest client when the audience was taken
    test_of_mailing_id     bigint REFERENCES mailing,    -- a test send, outside lists and statistics
    created_at             timestamptz NOT NULL DEFAULT now(),
    updated_at             timestamptz NOT NULL DEFAULT now(),
    started_at             timestamptz,
    finished_at            timestamptz,
    deleted_at             timestamptz,
    redacted_at            timestamptz,                  -- phones and texts are gone, counters stay
    CHECK (starts_at < ends_at),
    CHECK ((window_start IS NULL) = (window_end IS NULL)),
    CHECK (window_start <> window_end),
    CONSTRAINT mailing_started
        CHECK ((started_at IS NULL) = (status IN ('draft', 'scheduled')) OR status IN ('cancelled', 'finished')),
    -- What plans, claims or sends requires one of the statuses that a mailing has only while it is released.
    CONSTRAINT mailing_released CHECK (CASE status
        WHEN 'draft' THEN released_revision IS DISTINCT FROM content_revision
        WHEN 'cancelled' THEN true
        ELSE released_revision IS NOT DISTINCT FROM content_revision END),
    CONSTRAINT mailing_release_complete
        CHECK ((released_revision IS NULL) = (released_at IS NULL) AND (released_at IS NULL) = (released_by IS NULL))
);
COMMENT ON TABLE mailing IS 'A text for all clients that match a filter, from one moment to another.';

CREATE INDEX mailing_open ON mailing (id) WHERE status IN ('draft', 'scheduled', 'running', 'paused');
COMMENT ON INDEX mailing_open IS 'The sweep, which skips drafts, and the start page: mailings that are not over.';

CREATE INDEX mailing_to_redact ON mailing (id) WHERE redacted_at IS NULL AND status IN ('finished', 'cancelled');
COMMENT ON INDEX mailing_to_redact IS 'The retention: closed mailings whose phones and texts are still stored.';

CREATE TABLE mailing_text (
    mailing_id bigint NOT NULL REFERENCES mailing,
    revision   integer NOT NULL,
    text       text NOT NULL,
    PRIMARY KEY (mailing_id, revision)
);
COMMENT ON TABLE mailing_text IS
    'Each text that a mailing has had: an attempt that may have been accepted is repeated with the same text.';

CREATE TABLE mailing_release (
    mailing_id     bigint NOT NULL REFERENCES mailing,
    revision       integer NOT NULL, -- mailing.content_revision
    text_revision  integer NOT NULL,
    starts_at      timestamptz NOT NULL,
    ends_at        timestamptz NOT NULL,
    tags           text[] NOT NULL,
    operator_codes text[] NOT NULL,
    window_start   time,
    window_end     time,
    released_at    timestamptz NOT NULL,
    released_by    text NOT NULL,
    PRIMARY KEY (mailing_id, revision)
);
COMMENT ON TABLE mailing_release IS
    'What was released, by whom and when; a draft is compared with its newest release. mailing_text has the texts.';

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
) WITH (fillfactor = 20); -- updated often: the page keeps room for new versions beside the old
COMMENT ON TABLE mailing_counts IS
    'A mailing''s messages by status, kept by the triggers of message in the transaction that moves them.';

CREATE TABLE mailing_throughput (
    mailing_id bigint NOT NULL,
    minute     timestamptz NOT NULL,
    sent       integer NOT NULL,
    PRIMARY KEY (mailing_id, minute)
) WITH (fillfactor = 50);
COMMENT ON TABLE mailing_throughput IS
    'Messages sent by minute: the speed of a mailing now, and its history in the charts.';

CREATE INDEX mailing_throughput_minute ON mailing_throughput (minute);
COMMENT ON INDEX mailing_throughput_minute IS 'The last day of all mailings, and the retention.';

CREATE TABLE message_low_watermark (
    mailing_id bigint PRIMARY KEY REFERENCES mailing,
    due_at     timestamptz NOT NULL DEFAULT '-infinity',
    id         bigint NOT NULL DEFAULT 0,
    closes_at  timestamptz NOT NULL DEFAULT 'infinity' -- no pending message closes earlier; the settle job raises it
) WITH (fillfactor = 20);
COMMENT ON TABLE message_low_watermark IS
    'Where a mailing''s pending messages begin in the order of message_due: none is before it. A claim leaves dead entries '
    'in that index, which a scan from its beginning would read again at every claim: until the next VACUUM, and for as long '
    'as any transaction keeps an old snapshot open.';

CREATE TABLE counter_audit (
    mailing_id bigint PRIMARY KEY REFERENCES mailing,
    at         timestamptz NOT NULL,
    drift      bigint NOT NULL -- the sum of all differences; anything but 0 is a bug
);
COMMENT ON TABLE counter_audit IS 'The newest comparison of a mailing''s counters with its messages.';

CREATE FUNCTION mailing_created() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO mailing_counts (mailing_id) VALUES (NEW.id);
    INSERT INTO message_low_watermark (mailing_id) VALUES (NEW.id);
    INSERT INTO mailing_text (mailing_id, revision, text) VALUES (NEW.id, NEW.text_revision, NEW.text);
    RETURN NULL;
END $$;
CREATE TRIGGER mailing_created AFTER INSERT ON mailing FOR EACH ROW EXECUTE FUNCTION mailing_created();
COMMENT ON TRIGGER mailing_created ON mailing IS
    'Every mailing has its counters, its low watermark and its first text.';

CREATE FUNCTION mailing_reworded() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO mailing_text (mailing_id, revision, text) VALUES (NEW.id, NEW.text_revision, NEW.text);
    RETURN NULL;
END $$;
CREATE TRIGGER mailing_reworded AFTER UPDATE OF text_revision ON mailing
    FOR EACH ROW WHEN (NEW.text_revision <> OLD.text_revision) EXECUTE FUNCTION mailing_reworded();
COMMENT ON TRIGGER mailing_reworded ON mailing IS 'Every revision of a text is stored.';

CREATE FUNCTION mailing_released() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO mailing_release (mailing_id, revision, text_revision, starts_at, ends_at, tags, operator_codes,
        window_start, window_end, released_at, released_by)
    VALUES (NEW.id, NEW.released_revision, NEW.text_revision, NEW.starts_at, NEW.ends_at, NEW.tags, NEW.operator_codes,
        NEW.window_start, NEW.window_end, NEW.released_at, NEW.released_by);
    RETURN NULL;
END $$;
CREATE TRIGGER mailing_created_released AFTER INSERT ON mailing
    FOR EACH ROW WHEN (NEW.released_revision IS NOT NULL) EXECUTE FUNCTION mailing_released();
COMMENT ON TRIGGER mailing_created_released ON mailing IS
    'Every release is stored, also the one made with the mailing.';
CREATE TRIGGER mailing_released AFTER UPDATE OF released_revision ON mailing
    FOR EACH ROW WHEN (NEW.released_revision IS DISTINCT FROM OLD.released_revision)
    EXECUTE FUNCTION mailing_released();
COMMENT ON TRIGGER mailing_released ON mailing IS 'Every release is stored.';


-- Messages ------------------------------------------------------------------------------------------------------------

-- The same list as mailing.reasons.codes.ReasonCode, which has the words.
CREATE DOMAIN reason_code AS text CHECK (VALUE IN (
    -- An answer of the gateway
    'http_status', 'configuration', 'duplicate_id', 'other_message_id', 'gateway_code', 'empty_body', 'html',
    'not_json', 'not_an_object', 'no_code', 'invalid_code', 'answer_too_long', 'provider_code',
    'duplicate_reference', 'credentials_refused', 'no_credit', 'provider_setup', 'text_too_long',
    -- A call without a usable answer
    'no_free_connection', 'no_connection', 'no_answer', 'no_complete_answer', 'no_time_left', 'connection_closed',
    'connection_spoiled', 'name_not_resolved', 'invalid_certificate', 'tls_failed', 'connection_refused',
    'connection_reset', 'connection_failed', 'connection_error', 'closed_without_answer', 'answer_broke_off',
    'invalid_http',
    -- An attempt whose end was not recorded
    'worker_lost', 'restored', 'recorded_late',
    -- A decision of the plan, a person or a client
    'end_reached', 'no_window', 'timezone_unknown', 'unselected', 'mailing_cancelled', 'mailing_deleted',
    'phone_reached', 'client_opted_out', 'client_deleted', 'stopped_while_sending', 'person_erased',
    'resolved_failed',
    -- A refusal of the database
    'not_claimable', 'outcome_not_stored',
    -- Of the circuit breaker alone
    'most_calls_fail',
    -- Of an opt-out alone, beside client_opted_out
    'added_opted_out', 'phone_taken_over', 'imported', 'replied', 'statement'));
COMMENT ON DOMAIN reason_code IS
    'Why a message waits or how it ended, why an attempt has its outcome, why the circuit breaker opened, how a phone opted '
    'out. The parameters that the words need are beside it, in reason_params.';

-- No foreign keys: a mailing is never deleted for good, a client may be deleted while its messages stay counted, and a
-- check for each row would double the time of planning.
--
-- A message is stored once and rewritten twice, by the claim and by the result, each time a little longer. More than half
-- a page stays free, so that the claim of every message in the page finds room (docs/growth.md). The claim then is a HOT
-- update, which writes no index, because no index has a column that it changes. Whatever a claim changes and a statement
-- searches for is stored elsewhere: `phase` has one value for pending and sending, message_lease has the leases, and a
-- claimed message keeps its wait_reason.
--
-- Each message leaves two dead versions. With PostgreSQL's default factor of 0.2, a mailing of 100,000 beside 10,000,000
-- stored messages would never be vacuumed or analyzed.
CREATE TABLE message (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    mailing_id       bigint NOT NULL,
    client_id        bigint NOT NULL,
    status           text NOT NULL DEFAULT 'pending',
    phase            text NOT NULL GENERATED ALWAYS AS  -- for indexes: the same before and after a claim
                     (CASE WHEN status IN ('pending', 'sending') THEN 'open' ELSE status END) STORED,
    due_at           timestamptz NOT NULL,           -- [due_at, closes_at) is when it may be sent
    closes_at        timestamptz NOT NULL,
    wait_reason      text CHECK (wait_reason IN ('window', 'retry', 'rate', 'breaker')),
    counted_attempts integer NOT NULL DEFAULT 0,     -- as the API shows them
    claim_no         integer NOT NULL DEFAULT 0,     -- all claims; the fence: a result counts only for its own
    soft_refusals    integer NOT NULL DEFAULT 0,
    maybe_accepted   boolean NOT NULL DEFAULT false, -- an attempt may have been accepted
    lease_until      timestamptz,
    phone            text,                           -- as of the newest claim
    text_revision    integer,
    reason_code      reason_code,
    reason_params    jsonb,
    finished_at      timestamptz,
    CONSTRAINT message_once UNIQUE (client_id, mailing_id),
    CONSTRAINT message_status CHECK (
        CASE status
            WHEN 'pending' THEN lease_until IS NULL AND finished_at IS NULL
            WHEN 'sending' THEN lease_until IS NOT NULL AND finished_at IS NULL AND phone IS NOT NULL AND claim_no > 0
            WHEN 'sent' THEN lease_until IS NULL AND finished_at IS NOT NULL AND counted_attempts > 0
            WHEN 'failed' THEN lease_until IS NULL AND finished_at IS NOT NULL AND counted_attempts > 0
                AND NOT maybe_accepted
            WHEN 'cancelled' THEN lease_until IS NULL AND finished_at IS NOT NULL AND NOT maybe_accepted
            WHEN 'expired' THEN lease_until IS NULL AND finished_at IS NOT NULL AND NOT maybe_accepted
            WHEN 'unknown' THEN lease_until IS NULL AND finished_at IS NOT NULL AND maybe_accepted
            ELSE false
        END),
    -- A call that may have been accepted is repeated to the same phone. Where that phone was erased there is nothing to
    -- repeat: what makes such a message pending is refused, instead of every later claim.
    CONSTRAINT message_repeatable CHECK (status <> 'pending' OR NOT maybe_accepted OR phone IS NOT NULL)
) WITH (fillfactor = 45, autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);
COMMENT ON TABLE message IS 'One SMS to one client in one mailing, from its plan to its end.';
COMMENT ON CONSTRAINT message_once ON message IS
    'One message for one client in one mailing; this order also finds a client''s messages.';

CREATE INDEX message_due ON message (mailing_id, due_at, id, closes_at) WHERE phase = 'open';
COMMENT ON INDEX message_due IS
    'The claim, when a mailing is next due, and pending messages whose window has closed. Begin at the low watermark.';

CREATE INDEX message_by_wait ON message (mailing_id, wait_reason, due_at) WHERE phase = 'open' AND wait_reason IS NOT NULL;
COMMENT ON INDEX message_by_wait IS
    'The backlog: what a mailing''s messages wait for, from window to window without reading those in between.';

CREATE INDEX message_listed ON message (mailing_id, phase, id);
COMMENT ON INDEX message_listed IS 'Lists of a mailing''s messages by status, in keyset order.';

CREATE INDEX message_doubtful ON message (id) WHERE maybe_accepted AND phase IN ('open', 'unknown');
COMMENT ON INDEX message_doubtful IS 'The sweep: messages that a receipt shows to have been accepted.';

CREATE INDEX message_finished ON message USING brin (finished_at) WITH (pages_per_range = 32)
    WHERE finished_at IS NOT NULL;
COMMENT ON INDEX message_finished IS
    'The report of a day: finished_at grows with the table, so that block ranges are enough. A plan writes nothing to it; '
    'VACUUM adds the ranges that are new.';

CREATE TABLE attempt (
    message_id    bigint NOT NULL,
    number        integer NOT NULL, -- message.claim_no at the claim
    mailing_id    bigint NOT NULL,
    started_at    timestamptz NOT NULL,
    duration_ms   integer,          -- null: the worker was lost
    outcome       text NOT NULL,
    http_status   integer,
    code          bigint,           -- the gateway's
    reason_code   reason_code,
    reason_params jsonb,
    provider_id   text,             -- the provider's id of the message, for support
    PRIMARY KEY (message_id, number)
);
COMMENT ON TABLE attempt IS 'One call of the gateway for a message.';

CREATE INDEX attempt_of_mailing ON attempt (mailing_id, started_at, message_id, number);
COMMENT ON INDEX attempt_of_mailing IS
    'The history of a mailing, in the order of time, and its newest calls; rows are added at the end of each mailing''s part of the index.';

CREATE TABLE message_lease (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    lease_until timestamptz NOT NULL,
    message_ids bigint[] NOT NULL
);
COMMENT ON TABLE message_lease IS
    'The messages of one claim, for the sweep: it deletes a lease that has expired when none of them is being sent under '
    'it. An index of message by lease would be written by every claim.';

CREATE INDEX message_lease_expiry ON message_lease (lease_until);
COMMENT ON INDEX message_lease_expiry IS 'The sweep: expired leases.';


-- What follows a message, by trigger ----------------------------------------------------------------------------------
--
-- PostgreSQL fires the triggers of one event in the order of their names, so the names begin with a number. 10_count
-- locks the counters of each mailing that the statement touches, and the later triggers rely on that lock.

-- In a restored database no message gets an id, because the id may have been used since the backup.
CREATE FUNCTION refuse_ids() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT database_identity <> database_identity() FROM installation) THEN
        RAISE EXCEPTION 'the database was restored from a backup; run mailing resume-after-restore'
            USING ERRCODE = 'read_only_sql_transaction';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER refuse_ids BEFORE INSERT ON message FOR EACH STATEMENT EXECUTE FUNCTION refuse_ids();
COMMENT ON TRIGGER refuse_ids ON message IS
    'A restored database plans nothing until an operator has said that sending may resume.';

-- mailing.messages.states.TRANSITIONS
CREATE FUNCTION check_transitions() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE bad text;
BEGIN
    -- EXECUTE plans anew for the size of each batch, and min() makes the planner think of all rows: a plan kept from a
    -- batch of one, or one that hopes to stop at a first bad row, compares all with all
    EXECUTE 'SELECT min(format(''message %s: %s -> %s'', id, o.status, n.status)) FROM removed o JOIN added n USING (id)
        WHERE o.status <> n.status AND o.status || ''>'' || n.status NOT IN (
            ''pending>sending'', ''pending>sent'', ''pending>cancelled'', ''pending>expired'', ''pending>unknown'',
            ''sending>pending'', ''sending>sent'', ''sending>failed'', ''sending>cancelled'', ''sending>expired'',
            ''sending>unknown'', ''failed>pending'', ''cancelled>pending'', ''expired>pending'',
            ''unknown>pending'', ''unknown>sent'', ''unknown>failed'')' INTO bad;
    IF bad IS NOT NULL THEN
        RAISE EXCEPTION 'no such transition: %', bad USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER "00_check_transitions" AFTER UPDATE ON message
    REFERENCING NEW TABLE AS added OLD TABLE AS removed FOR EACH STATEMENT EXECUTE FUNCTION check_transitions();
COMMENT ON TRIGGER "00_check_transitions" ON message IS
    'Statuses change as TRANSITIONS says, whatever statement changes them: above all, no message leaves sent.';

-- The counters follow whatever statement moves messages. Locks are taken in the order of mailings, so two statements
-- over several mailings never wait for each other in a circle.
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
CREATE TRIGGER "10_count_added" AFTER INSERT ON message
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION count_messages();
COMMENT ON TRIGGER "10_count_added" ON message IS 'mailing_counts; locks the counters for the triggers after it.';
CREATE TRIGGER "10_count_moved" AFTER UPDATE ON message
    REFERENCING NEW TABLE AS added OLD TABLE AS removed FOR EACH STATEMENT EXECUTE FUNCTION count_messages();
COMMENT ON TRIGGER "10_count_moved" ON message IS 'mailing_counts; locks the counters for the triggers after it.';
CREATE TRIGGER "10_count_removed" AFTER DELETE ON message
    REFERENCING OLD TABLE AS removed FOR EACH STATEMENT EXECUTE FUNCTION count_messages();
COMMENT ON TRIGGER "10_count_removed" ON message IS 'mailing_counts.';

-- A message that an operator resolves as sent was not sent in that minute. No statement changes results of calls and
-- resolutions together, so one old row tells which it is, without a join.
CREATE FUNCTION count_throughput() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE 'INSERT INTO mailing_throughput AS p (mailing_id, minute, sent)
        SELECT n.mailing_id, date_trunc(''minute'', now()), count(*) FROM added n
        WHERE n.status = ''sent'' AND EXISTS (SELECT FROM removed WHERE status = ''sending'') GROUP BY n.mailing_id
        ON CONFLICT (mailing_id, minute) DO UPDATE SET sent = p.sent + excluded.sent';
    RETURN NULL;
END $$;
CREATE TRIGGER "20_throughput" AFTER UPDATE ON message
    REFERENCING NEW TABLE AS added OLD TABLE AS removed FOR EACH STATEMENT EXECUTE FUNCTION count_throughput();
COMMENT ON TRIGGER "20_throughput" ON message IS
    'mailing_throughput; after 10_count_moved, which has locked the mailing''s counters, so that nothing waits here.';

-- Exact only while the mailing's counters are locked, and in READ COMMITTED, which all our transactions use: a
-- transaction that made a message pending has committed by then and is seen, or comes later and lowers the watermark
-- again. Without pending messages the watermark is infinity. The settings bind the scan to message_due, even if the
-- planner has no statistics of the mailing.
CREATE FUNCTION raise_low_watermark(mailing bigint) RETURNS void LANGUAGE plpgsql
SET enable_sort = off SET enable_bitmapscan = off SET enable_seqscan = off AS $$
BEGIN
    UPDATE message_low_watermark f SET due_at = coalesce(n.due_at, 'infinity'), id = coalesce(n.id, 0)
    FROM message_low_watermark old LEFT JOIN LATERAL (
        SELECT m.due_at, m.id FROM message m
        WHERE m.mailing_id = raise_low_watermark.mailing AND m.phase = 'open' AND m.status = 'pending'
            AND (m.due_at, m.id) >= (old.due_at, old.id)
        ORDER BY m.due_at, m.id LIMIT 1) n ON true
    WHERE f.mailing_id = raise_low_watermark.mailing AND old.mailing_id = raise_low_watermark.mailing
      AND (f.due_at, f.id) IS DISTINCT FROM (coalesce(n.due_at, 'infinity'), coalesce(n.id, 0));
END $$;
COMMENT ON FUNCTION raise_low_watermark(bigint) IS 'Raise a mailing''s low watermark to its first pending message.';

CREATE FUNCTION move_low_watermark() RETURNS trigger LANGUAGE plpgsql SET enable_seqscan = off AS $$
BEGIN
    UPDATE message_low_watermark f SET
        due_at = least(a.first, f.due_at), id = CASE WHEN a.first <= f.due_at THEN 0 ELSE f.id END,
        closes_at = least(a.closes, f.closes_at)
    FROM (SELECT mailing_id, min(due_at) AS first, min(closes_at) AS closes FROM added WHERE status = 'pending'
          GROUP BY mailing_id) a
    WHERE f.mailing_id = a.mailing_id AND (a.first <= f.due_at OR a.closes < f.closes_at);
    IF TG_OP = 'UPDATE' THEN
        PERFORM raise_low_watermark(mailing_id) FROM (SELECT DISTINCT mailing_id FROM removed WHERE status = 'pending') r;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER "30_watermark_added" AFTER INSERT ON message
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION move_low_watermark();
COMMENT ON TRIGGER "30_watermark_added" ON message IS
    'message_low_watermark; after 10_count_added, which has locked the counters.';
CREATE TRIGGER "30_watermark_moved" AFTER UPDATE ON message
    REFERENCING NEW TABLE AS added OLD TABLE AS removed FOR EACH STATEMENT EXECUTE FUNCTION move_low_watermark();
COMMENT ON TRIGGER "30_watermark_moved" ON message IS
    'message_low_watermark; after 10_count_moved, which has locked the counters.';

CREATE FUNCTION note_leases() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO message_lease (lease_until, message_ids)
    SELECT lease_until, array_agg(id) FROM added WHERE status = 'sending' GROUP BY lease_until;
    RETURN NULL;
END $$;
CREATE TRIGGER "40_leases" AFTER UPDATE ON message
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION note_leases();
COMMENT ON TRIGGER "40_leases" ON message IS 'message_lease: no lease is missing, whatever statement sets it.';

CREATE TABLE plan_lock ();
COMMENT ON TABLE plan_lock IS
    'A lock without rows (docs/decisions/0024-plans-and-changes-of-clients-take-turns.md): plans take it in ROW EXCLUSIVE '
    'mode, changes of clients in SHARE mode. Plans run side by side and so do changes, but never a plan beside a change.';

-- Returns false after a second: an import that moved many clients may keep the lock for longer, and changes that come
-- later would queue behind a waiting plan.
CREATE FUNCTION lock_for_plan() RETURNS boolean LANGUAGE plpgsql SET lock_timeout = '1s' AS $$
BEGIN
    LOCK TABLE plan_lock IN ROW EXCLUSIVE MODE;
    RETURN true;
EXCEPTION WHEN lock_not_available THEN
    RETURN false;
END $$;

-- Called after the client is changed and before its messages are read: the messages of a plan in progress are committed
-- by then.
CREATE FUNCTION lock_for_client_change() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    LOCK TABLE plan_lock IN SHARE MODE;
END $$;


-- Receipts ------------------------------------------------------------------------------------------------------------

-- Not columns of message: `sent` stays final, and a receipt takes no lock that a sender needs
-- (docs/decisions/0034-receipts-stand-beside-messages.md).
CREATE TABLE receipt (
    message_id  bigint PRIMARY KEY,
    mailing_id  bigint NOT NULL,
    state       smallint NOT NULL CHECK (state IN (1, 2, 3)),       -- accepted, undelivered, delivered
    code        text CHECK (code ~ '^[ -~]{1,32}$'),                -- the provider's reason
    at          timestamptz NOT NULL,                               -- the provider's time if plausible, else ours
    received_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE receipt IS 'The strongest receipt of a message; without a row the provider has sent none.';

CREATE INDEX receipt_listed ON receipt (mailing_id, state, message_id) INCLUDE (code);
COMMENT ON INDEX receipt_listed IS
    'Lists of a mailing''s messages by delivery, in keyset order, and the reasons of the undelivered.';

CREATE TABLE receipt_counts (
    mailing_id  bigint PRIMARY KEY,
    delivered   bigint NOT NULL DEFAULT 0 CHECK (delivered >= 0),
    undelivered bigint NOT NULL DEFAULT 0 CHECK (undelivered >= 0)
) WITH (fillfactor = 20);
COMMENT ON TABLE receipt_counts IS
    'A mailing''s final receipts, kept by the triggers of receipt. Apart from mailing_counts, which senders lock.';

-- Locks are taken in the order of mailings, as in count_messages. An upsert fires the triggers of INSERT and UPDATE.
CREATE FUNCTION count_receipts() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO receipt_counts AS c (mailing_id, delivered, undelivered)
        SELECT mailing_id, count(*) FILTER (WHERE state = 3), count(*) FILTER (WHERE state = 2)
        FROM added WHERE state > 1 GROUP BY mailing_id ORDER BY mailing_id
        ON CONFLICT (mailing_id) DO UPDATE
            SET delivered = c.delivered + excluded.delivered, undelivered = c.undelivered + excluded.undelivered;
    IF TG_OP = 'UPDATE' THEN
        UPDATE receipt_counts c SET delivered = c.delivered - s.delivered, undelivered = c.undelivered - s.undelivered
        FROM (SELECT mailing_id, count(*) FILTER (WHERE state = 3) AS delivered,
                     count(*) FILTER (WHERE state = 2) AS undelivered
              FROM removed WHERE state > 1 GROUP BY mailing_id) AS s
        WHERE c.mailing_id = s.mailing_id;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER count_added AFTER INSERT ON receipt
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION count_receipts();
COMMENT ON TRIGGER count_added ON receipt IS 'receipt_counts.';
CREATE TRIGGER count_moved AFTER UPDATE ON receipt
    REFERENCING NEW TABLE AS added OLD TABLE AS removed FOR EACH STATEMENT EXECUTE FUNCTION count_receipts();
COMMENT ON TRIGGER count_moved ON receipt IS 'receipt_counts. A deletion counts nothing: the retention keeps the figures.';


-- The installation ----------------------------------------------------------------------------------------------------

-- A standby writes no log of its own; its timeline is the one that it follows.
CREATE FUNCTION database_identity() RETURNS text STABLE LANGUAGE sql AS $$
    SELECT concat_ws('/', (SELECT system_identifier FROM pg_control_system()),
        CASE WHEN pg_is_in_recovery() THEN lpad(upper(to_hex((SELECT timeline_id FROM pg_control_checkpoint()))), 8, '0')
             ELSE left(pg_walfile_name(pg_current_wal_lsn()), 8) END,
        (SELECT oid FROM pg_database WHERE datname = current_database()), 'message'::regclass::oid)
$$;
COMMENT ON FUNCTION database_identity() IS
    'Cluster, timeline, database and table. A restored backup has another identity, and so has a promoted standby, which '
    'may have lost what the old primary had committed.';

-- If the functions of the log are refused, as on Amazon Aurora, the identity has no cluster and no timeline. Aurora's
-- storage fails over by itself and loses nothing.
DO $$ BEGIN
    PERFORM database_identity();
EXCEPTION WHEN OTHERS THEN
    CREATE OR REPLACE FUNCTION database_identity() RETURNS text STABLE LANGUAGE sql AS $f$
        SELECT concat_ws('/', 'without log', (SELECT oid FROM pg_database WHERE datname = current_database()),
            'message'::regclass::oid)
    $f$;
END $$;

CREATE TABLE installation (
    only_row          boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    database_identity text NOT NULL DEFAULT database_identity(), -- where sending was allowed last; elsewhere nothing is sent
    clock_at          timestamptz NOT NULL DEFAULT 'epoch',      -- the newest time that a worker has seen on this database
    -- of the addresses that providers send receipts to; made once, so that a restored backup still knows its addresses
    receipt_key       bytea NOT NULL DEFAULT sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()))
                      CHECK (length(receipt_key) = 32)
) WITH (fillfactor = 20);
COMMENT ON TABLE installation IS
    'What the database remembers about itself: a restored backup and a clock that was set back are recognized by it.';

CREATE TABLE restoration (
    began_at          timestamptz PRIMARY KEY DEFAULT now(),
    database_identity text NOT NULL, -- with the start of the server
    finished_at       timestamptz
);
COMMENT ON TABLE restoration IS
    'Each time that sending was resumed in a restored database; an unfinished one is continued in the same database.';

CREATE TABLE witness (
    process uuid PRIMARY KEY,
    kind    text NOT NULL CHECK (kind IN ('api', 'worker')),
    tick    bigint NOT NULL,                    -- the process's own count; it remembers the last one that was acknowledged
    verdict text NOT NULL,                      -- mailing.restore.witness.FailoverVerdict
    seen_at timestamptz NOT NULL DEFAULT now()  -- for people and for deletion; nothing is decided by it
) WITH (fillfactor = 20);
COMMENT ON TABLE witness IS
    'What each process has committed here every second. After a failover it knows by that whether something is missing '
    '(docs/decisions/0010-a-failover-is-a-restore.md).';


-- The gateway ---------------------------------------------------------------------------------------------------------

CREATE TABLE gateway (
    name                  text PRIMARY KEY CHECK (name <> ''),
    rate                  double precision NOT NULL DEFAULT 0 CHECK (rate >= 0), -- calls a second, all workers; 0: no limit
    settings_rate         double precision NOT NULL DEFAULT 0,      -- as read last; a new value there becomes the rate
    next_slot_at          timestamptz NOT NULL DEFAULT '-infinity', -- slots before it are given away
    paused_until          timestamptz NOT NULL DEFAULT '-infinity', -- the gateway asked for it
    breaker_opened_at     timestamptz,                              -- null: the circuit breaker is closed
    breaker_reason_code   reason_code,
    breaker_reason_params jsonb,
    breaker_next_probe_at timestamptz,
    breaker_window_start  timestamptz NOT NULL DEFAULT '-infinity', -- earlier calls no longer count
    stopped_at            timestamptz,                              -- an operator stopped all sending
    stopped_by            text,
    CONSTRAINT gateway_breaker CHECK ((breaker_opened_at IS NULL) = (breaker_reason_code IS NULL)
        AND (breaker_opened_at IS NULL) = (breaker_next_probe_at IS NULL)),
    CONSTRAINT gateway_stop CHECK ((stopped_at IS NULL) = (stopped_by IS NULL))
) WITH (fillfactor = 20);
COMMENT ON TABLE gateway IS
    'What all workers share about a gateway: its rate limit, pause, circuit breaker and stop '
    '(docs/decisions/0008-one-row-for-the-gateway.md).';

CREATE TABLE gateway_calls (
    bucket_start timestamptz PRIMARY KEY,
    calls        integer NOT NULL,
    failed       integer NOT NULL CHECK (failed <= calls)
) WITH (fillfactor = 50);
COMMENT ON TABLE gateway_calls IS
    'The calls of all workers in buckets of five seconds, kept for a minute: the circuit breaker decides by them.';


-- People and their access ---------------------------------------------------------------------------------------------

CREATE TABLE user_account (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name          text NOT NULL CHECK (name <> ''),
    role          text NOT NULL CHECK (role IN ('viewer', 'editor', 'sender', 'admin')),
    password_hash text, -- argon2id, with its own salt and cost
    issuer        text, -- the identity provider, and the user's `sub` there
    subject       text,
    created_at    timestamptz NOT NULL DEFAULT now(),
    disabled_at   timestamptz,
    CHECK ((issuer IS NULL) = (subject IS NULL)),
    CHECK (issuer IS NULL OR password_hash IS NULL)
);
COMMENT ON TABLE user_account IS
    'A person who signs in at the admin page: with a password, or through the identity provider.';

CREATE UNIQUE INDEX user_account_name ON user_account (lower(name)) WHERE issuer IS NULL;
COMMENT ON INDEX user_account_name IS 'Sign-in with a password; a name means one person, in upper or lower case.';

CREATE UNIQUE INDEX user_account_subject ON user_account (issuer, subject) WHERE issuer IS NOT NULL;
COMMENT ON INDEX user_account_subject IS 'Sign-in through the identity provider.';

CREATE TABLE user_session (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    hash         bytea NOT NULL UNIQUE,              -- SHA-256; a token is 32 random bytes, so no salt
    user_id      bigint NOT NULL REFERENCES user_account,
    created_at   timestamptz NOT NULL DEFAULT now(),
    last_seen_at timestamptz NOT NULL DEFAULT now(), -- to the minute
    ip_address   text NOT NULL,
    user_agent   text NOT NULL
);
COMMENT ON TABLE user_session IS 'A browser that is signed in.';

CREATE INDEX user_session_of_user ON user_session (user_id, id);
COMMENT ON INDEX user_session_of_user IS 'A user''s sessions: to list them, and to end them all.';

CREATE INDEX user_session_age ON user_session (last_seen_at);
COMMENT ON INDEX user_session_age IS 'The retention: sessions not seen for longest.';

CREATE TABLE login_throttle (
    key_hash     bytea PRIMARY KEY, -- SHA-256 of account or address: a typed name may be a password
    failures     integer NOT NULL,
    failed_at    timestamptz NOT NULL,
    locked_until timestamptz NOT NULL
);
COMMENT ON TABLE login_throttle IS 'Failed sign-ins by account and by address, and until when more are refused.';

CREATE INDEX login_throttle_age ON login_throttle (failed_at);
COMMENT ON INDEX login_throttle_age IS 'The retention: the oldest failures.';

CREATE TABLE api_key (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name       text NOT NULL,
    scope      text NOT NULL DEFAULT 'full' CHECK (scope IN ('read', 'full')),
    hint       text NOT NULL,                       -- the key's first characters, to tell keys apart in a list
    hash       bytea NOT NULL UNIQUE,               -- SHA-256; a key is 32 random bytes, so no salt and no slow hash
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by bigint REFERENCES user_account (id), -- null: made by the command line
    revoked_at timestamptz
);
COMMENT ON TABLE api_key IS 'A program''s access to the API.';

CREATE UNLOGGED TABLE api_rate_limit (
    caller text PRIMARY KEY,
    tat    timestamptz NOT NULL -- the theoretical arrival time (GCRA)
) WITH (fillfactor = 20);
COMMENT ON TABLE api_rate_limit IS
    'How much of its rate each caller has used. A process writes at most ten times a second for a caller; a crash may lose the row.';

CREATE TABLE idempotency_key (
    caller       text NOT NULL,  -- one caller's keys are separate from another's
    key          text NOT NULL,
    request_hash bytea NOT NULL, -- SHA-256 of method, path, query, content type and body
    status       integer NOT NULL,
    headers      jsonb NOT NULL,
    body         bytea NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (caller, key)
);
COMMENT ON TABLE idempotency_key IS 'The answer to a POST with an Idempotency-Key, stored with the change itself.';

CREATE INDEX idempotency_key_age ON idempotency_key (created_at);
COMMENT ON INDEX idempotency_key_age IS
    'The retention: 19 pages read when none of 300,000 keys is due. A BRIN index reads 5,600, because the ranges written '
    'since the last VACUUM have no summary.';


-- What happened, and what workers count -------------------------------------------------------------------------------

CREATE TABLE event (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at         timestamptz NOT NULL DEFAULT now(),
    kind       text NOT NULL,              -- such as mailing.paused, message.resolved, gateway.stopped
    actor      text NOT NULL,              -- such as key 3 (crm)
    mailing_id bigint,
    message_id bigint,
    client_id  bigint,
    request_id text,                       -- as in the log
    detail     jsonb NOT NULL DEFAULT '{}' -- never a phone, a text or a secret
);
COMMENT ON TABLE event IS 'What a person or a program did.';

CREATE INDEX event_of_mailing ON event (mailing_id, at, id) WHERE mailing_id IS NOT NULL;
COMMENT ON INDEX event_of_mailing IS 'The history of a mailing with all its messages, in the order of time.';

CREATE INDEX event_of_audience ON event (mailing_id, at, id) WHERE mailing_id IS NOT NULL AND message_id IS NULL;
COMMENT ON INDEX event_of_audience IS
    'The history of a message: what it shares with its mailing, without the events of a million other messages.';

CREATE INDEX event_of_message ON event (message_id, at, id) WHERE message_id IS NOT NULL;
COMMENT ON INDEX event_of_message IS 'The history of a message, in the order of time.';

CREATE INDEX event_of_client ON event (client_id, at, id) WHERE client_id IS NOT NULL;
COMMENT ON INDEX event_of_client IS 'The history of a client, in the order of time.';

CREATE INDEX event_of_all ON event (at, id) WHERE mailing_id IS NULL AND message_id IS NULL AND client_id IS NULL;
COMMENT ON INDEX event_of_all IS 'Every history: what concerns all mailings, such as a stopped gateway.';

-- Deletes one slice for the retention: of the next `count` events after the id `after`, those that are older than
-- `days` and about clients, messages or redacted mailings. Returns the id after which the next slice begins, or NULL if
-- the remaining events are newer: ids grow with time, except within the duration of a transaction.
--
-- It runs as its owner, because no process may delete events in any other way. It never deletes events about users,
-- keys, the gateway or the database, nor opt-outs and erasures.
CREATE FUNCTION forget_events(days integer, after bigint, count integer) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    cutoff timestamptz := now() - make_interval(days => greatest(days, 1));
    ids    bigint[];
    aged   boolean;
BEGIN
    SELECT array_agg(s.id ORDER BY s.id), min(s.at) < cutoff INTO ids, aged
    FROM (SELECT e.id, e.at FROM event e WHERE e.id > after ORDER BY e.id LIMIT count) s;
    IF aged IS NOT TRUE THEN
        RETURN NULL;
    END IF;
    DELETE FROM event e WHERE e.id = ANY (ids) AND e.at < cutoff
        AND split_part(e.kind, '.', 1) IN ('client', 'clients', 'message', 'mailing')
        AND e.kind NOT IN ('client.opted_out', 'client.opted_in', 'client.erased')
        AND (e.mailing_id IS NULL OR EXISTS (
            SELECT FROM mailing g WHERE g.id = e.mailing_id AND g.redacted_at IS NOT NULL));
    RETURN ids[cardinality(ids)];
END $$;
REVOKE ALL ON FUNCTION forget_events FROM PUBLIC;

CREATE TABLE worker_counter (
    name  text NOT NULL,
    label text NOT NULL DEFAULT '',
    value double precision NOT NULL,
    PRIMARY KEY (name, label)
) WITH (fillfactor = 50);
COMMENT ON TABLE worker_counter IS 'What workers have counted, for /metrics: each adds its part every few seconds.';


-- Uploads -------------------------------------------------------------------------------------------------------------

-- The same list as mailing.reasons.refusals.RefusalCode.
CREATE DOMAIN refusal_code AS text CHECK (VALUE IN (
    -- A value
    'required', 'nul', 'phone', 'phone_length', 'phone_abroad', 'phone_rounded', 'phone_taken', 'phone_erased',
    'operator_code', 'tag', 'tag_invisible', 'timezone', 'timezone_offset', 'timezone_fixed', 'timezone_misspelt',
    'timezone_missing', 'opted_out',
    -- A row
    'open_quote', 'cell_count', 'unnamed_column', 'undecodable_row', 'long_row',
    -- A file
    'empty_file', 'unknown_encoding', 'workbook', 'old_workbook', 'gzip', 'bzip2', 'xz', 'zstandard', 'seven_zip',
    'rar', 'pdf', 'unknown_column', 'repeated_column', 'missing_column', 'no_file', 'large_file', 'own_files',
    'all_files',
    -- An import
    'slow_validation', 'never_finished', 'failed_each_time',
    -- The database during an import
    'transaction_timeout', 'read_only', 'disk_full', 'no_resources', 'canceled_statement', 'shutdown',
    'lock_timeout', 'concurrent_change', 'file_error', 'connection_lost', 'silent', 'busy'));
COMMENT ON DOMAIN refusal_code IS 'Why a value, a row, a file or an import is refused.';

CREATE TABLE upload (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name        text NOT NULL,              -- of the file, as the browser gave it
    actor       text NOT NULL,
    size        bigint NOT NULL,            -- bytes
    status      text NOT NULL DEFAULT 'uploaded'
                CHECK (status IN ('uploaded', 'waiting', 'importing', 'done', 'failed')),
    attempts    integer NOT NULL DEFAULT 0, -- also the fence: a worker's result is valid only for its own attempt
    lease_until timestamptz,
    bytes_read  bigint NOT NULL DEFAULT 0,  -- bytes, of the newest attempt
    created     bigint NOT NULL DEFAULT 0,
    updated     bigint NOT NULL DEFAULT 0,
    opted_out   bigint NOT NULL DEFAULT 0,
    rejected    bigint NOT NULL DEFAULT 0,
    broke_off   refusal_code,               -- why the newest attempt broke off; another follows by itself
    refusals    jsonb,                      -- why nothing was imported: codes and their parameters
    created_at  timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    CHECK ((lease_until IS NOT NULL) = (status = 'importing')),
    CHECK ((finished_at IS NOT NULL) = (status IN ('done', 'failed'))),
    CHECK ((refusals IS NOT NULL) = (status = 'failed'))
);
COMMENT ON TABLE upload IS
    'A file of clients, from the choice in the browser to the result. It is stored here because the next request may reach '
    'another process, and the import runs in a worker.';

CREATE INDEX upload_open ON upload (id) WHERE status IN ('waiting', 'importing');
COMMENT ON INDEX upload_open IS 'The sweep: imports that should be under way.';

CREATE TABLE upload_chunk (
    upload_id bigint NOT NULL REFERENCES upload ON DELETE CASCADE,
    number    integer NOT NULL,
    data      bytea NOT NULL,
    PRIMARY KEY (upload_id, number)
);
COMMENT ON TABLE upload_chunk IS 'The file itself, until it is imported.';

CREATE TABLE upload_row_error (
    upload_id bigint NOT NULL REFERENCES upload ON DELETE CASCADE,
    line      bigint NOT NULL,
    field     text NOT NULL,
    code      refusal_code NOT NULL,
    params    jsonb NOT NULL, -- for the words
    row       text NOT NULL,  -- as it was given
    PRIMARY KEY (upload_id, line, field)
);
COMMENT ON TABLE upload_row_error IS 'A bad field of a row that was left out.';


-- Reports -------------------------------------------------------------------------------------------------------------

CREATE TABLE report (
    day                date PRIMARY KEY,                        -- the local day that it covers, in the report's time zone
    zone               text NOT NULL,
    starts             timestamptz NOT NULL,                    -- [starts, ends) as of when the row was made; the next report begins
    ends               timestamptz NOT NULL,                    -- there, also when the report's time zone changes
    key                uuid NOT NULL DEFAULT gen_random_uuid(), -- in the Message-ID: the same for every attempt of this day
    due_at             timestamptz NOT NULL,                    -- not attempted earlier
    lease_until        timestamptz,                             -- an attempt is under way until then
    attempts           integer NOT NULL DEFAULT 0,              -- also the fence: a failure is valid only for its own attempt
    delivered_to       text[] NOT NULL DEFAULT '{}',            -- recipients for whom the mail server took it
    permanently_failed boolean NOT NULL DEFAULT false,          -- the newest attempt was refused for good: it delays no other day
    sent_at            timestamptz,
    last_error         text,
    CHECK (sent_at IS NULL OR lease_until IS NULL),
    CONSTRAINT report_period CHECK (starts < ends),
    CONSTRAINT report_once EXCLUDE USING gist (tstzrange(starts, ends) WITH &&)
);
COMMENT ON TABLE report IS
    'The report of each day since the service first had a recipient; the row is made when the day is over.';
COMMENT ON CONSTRAINT report_once ON report IS 'No moment is reported twice.';


-- Erasures ------------------------------------------------------------------------------------------------------------

CREATE TABLE erasure_key (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    key      bytea NOT NULL CHECK (length(key) = 32)
);
COMMENT ON TABLE erasure_key IS
    'The key of the log of erasures: made once and copied by every backup, so the log fits whatever is restored. Without '
    'the database the log is worthless.';

-- A keyed hash, SHA-256 twice with the key first: PostgreSQL has HMAC only in an extension. A single expression, so
-- that it is inlined.
CREATE FUNCTION erasure_hash(phone text, key bytea) RETURNS bytea STABLE LANGUAGE sql AS $$
    SELECT sha256(key || sha256(key || convert_to(phone, 'UTF8')))
$$;

CREATE TABLE erasure (
    hash       bytea PRIMARY KEY,
    erased_at  timestamptz NOT NULL DEFAULT now(),
    revoked_at timestamptz -- allowed again since then
);
COMMENT ON TABLE erasure IS 'The log of erasures: phones that are not stored again.';

-- An AFTER trigger, so that it sees an erasure that was committed while the statement waited.
CREATE FUNCTION refuse_erased() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM erasure WHERE revoked_at IS NULL) AND EXISTS (
        SELECT FROM written w CROSS JOIN erasure_key k JOIN erasure e ON e.hash = erasure_hash(w.phone, k.key)
        WHERE e.revoked_at IS NULL)
    THEN
        RAISE EXCEPTION 'client_not_erased: a person who was erased would be stored again'
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER refuse_erased AFTER INSERT ON client
    REFERENCING NEW TABLE AS written FOR EACH STATEMENT EXECUTE FUNCTION refuse_erased();
COMMENT ON TRIGGER refuse_erased ON client IS
    'A client who was erased is not stored again, whatever statement does it.';
CREATE TRIGGER refuse_erased_change AFTER UPDATE ON client
    REFERENCING NEW TABLE AS written FOR EACH STATEMENT EXECUTE FUNCTION refuse_erased();
COMMENT ON TRIGGER refuse_erased_change ON client IS
    'A client who was erased is not stored again, whatever statement does it.';


-- Suppressions --------------------------------------------------------------------------------------------------------

CREATE TABLE suppression (
    phone_hash    bytea PRIMARY KEY,                  -- by erasure_hash
    since         timestamptz NOT NULL DEFAULT now(),
    actor         text NOT NULL,                      -- such as key 3 (crm)
    reason_code   reason_code NOT NULL,
    reason_params jsonb                               -- never the phone
);
COMMENT ON TABLE suppression IS
    'A phone that opted out. The entry survives the client; a client with such a phone is opted out from the start.';

-- Both triggers run after the rows are stored: a client is locked before its phone's entry, everywhere, and an opt-out
-- that was committed while the statement waited is seen. They run as their owner, because no process may change the
-- list otherwise. `mailing.actor` and `mailing.reason_code` say who did it and how, for the transaction; in psql the
-- actor is the role, and the reason `statement`.
CREATE FUNCTION suppress(phone text) RETURNS void LANGUAGE sql SET search_path = public, pg_temp AS $$
    INSERT INTO suppression (phone_hash, actor, reason_code, reason_params)
    SELECT erasure_hash(phone, k.key), coalesce(nullif(current_setting('mailing.actor', true), ''), session_user),
        coalesce(nullif(current_setting('mailing.reason_code', true), ''), 'statement'),
        CAST(nullif(current_setting('mailing.reason_params', true), '') AS jsonb)
    FROM erasure_key k ON CONFLICT DO NOTHING
$$;
REVOKE ALL ON FUNCTION suppress FROM PUBLIC;

CREATE FUNCTION opt_out_created() RETURNS trigger LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM suppress(w.phone) FROM written w WHERE w.opted_out ORDER BY w.phone;
    IF EXISTS (SELECT FROM suppression) THEN
        UPDATE client c SET opted_out = true
        FROM written w CROSS JOIN erasure_key k JOIN suppression s ON s.phone_hash = erasure_hash(w.phone, k.key)
        WHERE c.id = w.id AND NOT c.opted_out;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER opt_out_created AFTER INSERT ON client
    REFERENCING NEW TABLE AS written FOR EACH STATEMENT EXECUTE FUNCTION opt_out_created();
COMMENT ON TRIGGER opt_out_created ON client IS
    'A client is opted out if and only if the list has its phone: a new client begins so, whatever statement stores it.';

CREATE FUNCTION opt_out_changed() RETURNS trigger LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    IF NEW.opted_out THEN
        PERFORM suppress(NEW.phone);
    ELSIF NEW.phone = OLD.phone THEN
        DELETE FROM suppression s USING erasure_key k WHERE s.phone_hash = erasure_hash(NEW.phone, k.key);
    ELSE
        UPDATE client SET opted_out = true
        WHERE id = NEW.id AND EXISTS (
            SELECT FROM suppression s JOIN erasure_key k ON s.phone_hash = erasure_hash(NEW.phone, k.key));
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER opt_out_changed AFTER UPDATE OF phone, opted_out ON client FOR EACH ROW
    WHEN (NEW.phone <> OLD.phone OR NEW.opted_out <> OLD.opted_out) EXECUTE FUNCTION opt_out_changed();
COMMENT ON TRIGGER opt_out_changed ON client IS
    'An opt-out enters the list, and opting in with the same phone leaves it. A client that takes a listed phone is opted '
    'out; the phone that it had stays listed.';

-- For phones that may have no client: a client that is created at the same time would not be seen, and would not see
-- the entry.
CREATE FUNCTION lock_for_suppression() RETURNS void LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    LOCK TABLE client IN EXCLUSIVE MODE;
END $$;
REVOKE ALL ON FUNCTION lock_for_suppression FROM PUBLIC;

-- Opts out phones, with a client or without. Returns the clients that were not opted out before, and how many phones
-- were not on the list.
CREATE FUNCTION opt_out(phones text[], OUT clients bigint[], OUT added bigint) LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    listed bigint;
BEGIN
    SELECT count(*) INTO listed FROM unnest(phones) AS p (phone) CROSS JOIN erasure_key k
        JOIN suppression s ON s.phone_hash = erasure_hash(p.phone, k.key);
    added := cardinality(phones) - listed;
    WITH changed AS (
        UPDATE client c SET opted_out = true, updated_at = now()
        FROM unnest(phones) AS p (phone) WHERE c.phone = p.phone AND NOT c.opted_out RETURNING c.id
    )
    SELECT coalesce(array_agg(id ORDER BY id), '{}') INTO clients FROM changed;
    PERFORM suppress(p.phone) FROM unnest(phones) AS p (phone);
END $$;
REVOKE ALL ON FUNCTION opt_out FROM PUBLIC;


-- Former phones -------------------------------------------------------------------------------------------------------

CREATE TABLE former_phone (
    mailing_id bigint NOT NULL,
    phone_hash bytea NOT NULL, -- by erasure_hash
    message_id bigint NOT NULL,
    PRIMARY KEY (mailing_id, phone_hash, message_id)
);
COMMENT ON TABLE former_phone IS
    'The phone of a message that was claimed for it, and whose client has left it: deleted, or with another phone. Its next '
    'client gets no second message of the mailing.';

-- A phone has one client at a time, so its next client comes after this entry. Windows are made void before the
-- messages are read: a claim in progress is committed by then, and a later claim finds none of the messages until the
-- settle job has computed their windows.
CREATE FUNCTION phone_left() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM lock_for_client_change();
    UPDATE message SET closes_at = '-infinity'
    WHERE client_id = OLD.id AND status IN ('pending', 'sending') AND closes_at <> '-infinity';
    INSERT INTO former_phone (mailing_id, phone_hash, message_id)
    SELECT m.mailing_id, erasure_hash(m.phone, k.key), m.id FROM message m CROSS JOIN erasure_key k
    WHERE m.client_id = OLD.id AND m.phone IS NOT NULL ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;
CREATE TRIGGER phone_left AFTER DELETE ON client FOR EACH ROW EXECUTE FUNCTION phone_left();
COMMENT ON TRIGGER phone_left ON client IS 'former_phone, whatever statement deletes a client.';
CREATE TRIGGER phone_left_by_change AFTER UPDATE OF phone ON client FOR EACH ROW
    WHEN (NEW.phone <> OLD.phone) EXECUTE FUNCTION phone_left();
COMMENT ON TRIGGER phone_left_by_change ON client IS
    'former_phone, whatever statement changes a phone. The settle job decides which unsent messages the new phone gets.';


-- The rows that are always there --------------------------------------------------------------------------------------

INSERT INTO installation DEFAULT VALUES;
INSERT INTO gateway (name) VALUES ('default');
INSERT INTO erasure_key (key) SELECT sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()));
