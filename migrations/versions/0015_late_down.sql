CREATE OR REPLACE FUNCTION check_transitions() RETURNS trigger LANGUAGE plpgsql AS $$
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
