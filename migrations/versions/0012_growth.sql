-- Where a mailing's pending messages begin in the order of message_due: none stands before. What was claimed leaves dead
-- entries in that index, which a walk from its beginning would read again at every claim: until the next VACUUM, and for
-- as long as any transaction keeps an old snapshot open.
CREATE TABLE message_front (
    mailing_id bigint PRIMARY KEY REFERENCES mailing,
    due_at     timestamptz NOT NULL DEFAULT '-infinity',
    id         bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 20);
INSERT INTO message_front (mailing_id) SELECT id FROM mailing;

CREATE OR REPLACE FUNCTION mailing_created() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO mailing_counts (mailing_id) VALUES (NEW.id);
    INSERT INTO message_front (mailing_id) VALUES (NEW.id);
    INSERT INTO mailing_text (mailing_id, revision, text) VALUES (NEW.id, NEW.text_revision, NEW.text);
    RETURN NULL;
END $$;

-- Exact only while the mailing's counters are locked, and in READ COMMITTED, as everybody writes here: whoever made a
-- message pending has committed then and is seen, or comes later and lowers the new front. Where nothing is pending it is infinity. The walk is kept to message_due,
-- whatever the planner thinks of a mailing that it has no statistics of.
CREATE FUNCTION raise_front(mailing bigint) RETURNS void LANGUAGE plpgsql
SET enable_sort = off SET enable_bitmapscan = off SET enable_seqscan = off AS $$
BEGIN
    UPDATE message_front f SET due_at = coalesce(n.due_at, 'infinity'), id = coalesce(n.id, 0)
    FROM message_front old LEFT JOIN LATERAL (
        SELECT m.due_at, m.id FROM message m
        WHERE m.mailing_id = raise_front.mailing AND m.status = 'pending' AND (m.due_at, m.id) >= (old.due_at, old.id)
        ORDER BY m.due_at, m.id LIMIT 1) n ON true
    WHERE f.mailing_id = raise_front.mailing AND old.mailing_id = raise_front.mailing
      AND (f.due_at, f.id) IS DISTINCT FROM (coalesce(n.due_at, 'infinity'), coalesce(n.id, 0));
END $$;

-- Fires after count_moved, in the order of names: the counters of each of these mailings are locked by then.
CREATE FUNCTION move_front() RETURNS trigger LANGUAGE plpgsql SET enable_seqscan = off AS $$
BEGIN
    UPDATE message_front f SET due_at = a.first, id = 0
    FROM (SELECT mailing_id, min(due_at) AS first FROM added WHERE status = 'pending' GROUP BY mailing_id) a
    WHERE f.mailing_id = a.mailing_id AND a.first <= f.due_at;
    IF TG_OP = 'UPDATE' THEN
        PERFORM raise_front(mailing_id) FROM (SELECT DISTINCT mailing_id FROM removed WHERE status = 'pending') r;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER move_front AFTER INSERT ON message
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION move_front();
CREATE TRIGGER move_front_on AFTER UPDATE ON message
    REFERENCING NEW TABLE AS added OLD TABLE AS removed FOR EACH STATEMENT EXECUTE FUNCTION move_front();

-- A message is stored once and rewritten twice, by the claim and by the result, each time a little longer. Half a page
-- stays free for that: afterwards the table is a quarter smaller than with full pages, the rewriting a tenth less for the
-- log, and blanking stays in the page (docs/growth.md). None of the two is a HOT update, because the status decides which
-- of the partial indexes have the row.
-- Two dead versions a message: by PostgreSQL's own 0.2 a mailing of 100,000 beside 10,000,000 kept ones would never be
-- vacuumed, nor its statistics taken.
ALTER TABLE message SET (
    fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05
);
