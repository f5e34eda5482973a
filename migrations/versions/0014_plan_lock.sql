-- Whoever computes when clients may be sent to, and whoever changes what that depends on, never do so at the same moment.
-- Many plans run side by side and so do many changes, but not a plan beside a change: a plan takes the table in ROW
-- EXCLUSIVE mode, a change in SHARE mode; each lets in its own kind and keeps out the other. It has no rows
-- (docs/decisions/0024-plans-and-changes-of-clients-take-turns.md).
CREATE TABLE plan_lock ();

-- False after a second: an import that moved many clients may keep the lock for longer, and whoever waits for it holds up
-- the changes that come later.
CREATE FUNCTION lock_for_plan() RETURNS boolean LANGUAGE plpgsql SET lock_timeout = '1s' AS $$
BEGIN
    LOCK TABLE plan_lock IN ROW EXCLUSIVE MODE;
    RETURN true;
EXCEPTION WHEN lock_not_available THEN
    RETURN false;
END $$;

-- After the change, before its messages are looked for: those of a plan under way are committed by then.
CREATE FUNCTION lock_for_client_change() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    LOCK TABLE plan_lock IN SHARE MODE;
END $$;

-- A call that may have arrived is repeated to the same phone. Where that phone was erased there is nothing to repeat, and
-- whatever makes such a message pending is refused, instead of every later claim.
UPDATE message SET status = 'unknown', finished_at = now(), waiting = NULL
WHERE status = 'pending' AND ambiguous AND phone IS NULL;
ALTER TABLE message ADD CONSTRAINT message_repeatable
    CHECK (status <> 'pending' OR NOT ambiguous OR phone IS NOT NULL);
