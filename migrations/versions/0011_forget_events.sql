-- A slice of the retention: of the `count` events behind the id `after` those that are `days` old and about clients,
-- messages or mailings that were blanked. Returns where the next slice begins, NULL when the rest is young: ids grow with
-- time, but for the length of a transaction.
--
-- It runs as its owner, because no process may delete an event otherwise. What people did to users and keys, to the
-- gateway and the database, and that somebody opted out or was erased, it deletes for nobody.
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
            SELECT FROM mailing g WHERE g.id = e.mailing_id AND g.blanked_at IS NOT NULL));
    RETURN ids[cardinality(ids)];
END $$;
REVOKE ALL ON FUNCTION forget_events FROM PUBLIC;
