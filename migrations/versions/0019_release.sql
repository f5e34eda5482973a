-- A release covers everything that decides what is sent: text, times, local hours and filter. Each change of one of them
-- adds one to content_revision; a mailing with another revision than the released one is a draft.
ALTER TABLE mailing
    ADD COLUMN content_revision integer NOT NULL DEFAULT 1,
    ADD COLUMN released_revision integer,
    ADD COLUMN released_at timestamptz,
    ADD COLUMN released_by text;

-- Until now a mailing was released by creating it.
UPDATE mailing g SET
    released_revision = 1, released_at = g.created_at,
    released_by = coalesce((SELECT e.actor FROM event e WHERE e.mailing_id = g.id AND e.kind = 'mailing.created'
                            ORDER BY e.id LIMIT 1), 'command line');

-- Whatever plans, claims or sends asks for one of the statuses that a mailing has only while it is released.
ALTER TABLE mailing
    ALTER COLUMN status SET DEFAULT 'draft',
    DROP CONSTRAINT mailing_status_check,
    DROP CONSTRAINT mailing_check3,
    ADD CONSTRAINT mailing_status_check
        CHECK (status IN ('draft', 'scheduled', 'running', 'paused', 'finished', 'cancelled')),
    ADD CONSTRAINT mailing_launched
        CHECK ((launched_at IS NULL) = (status IN ('draft', 'scheduled')) OR status IN ('cancelled', 'finished')),
    ADD CONSTRAINT mailing_released CHECK (CASE status
        WHEN 'draft' THEN released_revision IS DISTINCT FROM content_revision
        WHEN 'cancelled' THEN true
        ELSE released_revision IS NOT DISTINCT FROM content_revision END),
    ADD CONSTRAINT mailing_release_told
        CHECK ((released_revision IS NULL) = (released_at IS NULL) AND (released_at IS NULL) = (released_by IS NULL));

-- the start page, and the sweep, which reads no draft
DROP INDEX mailing_open;
CREATE INDEX mailing_open ON mailing (id) WHERE status IN ('draft', 'scheduled', 'running', 'paused');

-- what was released, by whom and when: a draft is compared with the last of them; mailing_text has the words
CREATE TABLE mailing_release (
    mailing_id     bigint NOT NULL REFERENCES mailing,
    revision       integer NOT NULL,   -- mailing.content_revision
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
CREATE TRIGGER mailing_released AFTER UPDATE OF released_revision ON mailing
    FOR EACH ROW WHEN (NEW.released_revision IS DISTINCT FROM OLD.released_revision)
    EXECUTE FUNCTION mailing_released();

INSERT INTO mailing_release (mailing_id, revision, text_revision, starts_at, ends_at, tags, operator_codes,
    window_start, window_end, released_at, released_by)
SELECT id, released_revision, text_revision, starts_at, ends_at, tags, operator_codes, window_start, window_end,
    released_at, released_by
FROM mailing;
