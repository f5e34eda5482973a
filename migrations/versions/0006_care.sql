-- when the phones and the words of a closed mailing were blanked; its messages and counters stay
ALTER TABLE mailing ADD COLUMN blanked_at timestamptz;
-- the retention: closed mailings that still hold them
CREATE INDEX mailing_to_blank ON mailing (id) WHERE blanked_at IS NULL AND status IN ('finished', 'cancelled');

-- Made once and copied by every backup, so the log of erasures fits whatever is restored. It is beside what it keys:
-- it makes the log worthless without the database, not the database without the log.
CREATE TABLE erasure_key (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    key      bytea NOT NULL CHECK (length(key) = 32)
);
INSERT INTO erasure_key (key) SELECT sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()));

-- SHA-256 twice in an envelope of the key; HMAC needs an extension. An expression alone, so that it is inlined.
CREATE FUNCTION erasure_hash(phone text, key bytea) RETURNS bytea STABLE LANGUAGE sql AS $$
    SELECT sha256(key || sha256(key || convert_to(phone, 'UTF8')))
$$;

-- the log of erasures: whose phone is not stored again
CREATE TABLE erasure (
    hash      bytea PRIMARY KEY,
    erased_at timestamptz NOT NULL DEFAULT now(),
    lifted_at timestamptz                          -- allowed again since then
);

-- A client who was erased doesn't come back by mistake, whatever statement writes it. AFTER, so that an erasure that
-- was committed while the statement waited is seen.
CREATE FUNCTION refuse_erased() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM erasure WHERE lifted_at IS NULL) AND EXISTS (
        SELECT FROM written w CROSS JOIN erasure_key k JOIN erasure e ON e.hash = erasure_hash(w.phone, k.key)
        WHERE e.lifted_at IS NULL)
    THEN
        RAISE EXCEPTION 'client_not_erased: a person who was erased would be stored again'
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER refuse_erased AFTER INSERT ON client
    REFERENCING NEW TABLE AS written FOR EACH STATEMENT EXECUTE FUNCTION refuse_erased();
CREATE TRIGGER refuse_erased_change AFTER UPDATE ON client
    REFERENCING NEW TABLE AS written FOR EACH STATEMENT EXECUTE FUNCTION refuse_erased();
