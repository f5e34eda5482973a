-- A standby has no end of the log of its own: it lives where its primary does, on the timeline it has followed so far.
CREATE OR REPLACE FUNCTION database_home() RETURNS text STABLE LANGUAGE sql AS $$
    SELECT concat_ws('/', (SELECT system_identifier FROM pg_control_system()),
        CASE WHEN pg_is_in_recovery() THEN lpad(upper(to_hex((SELECT timeline_id FROM pg_control_checkpoint()))), 8, '0')
             ELSE left(pg_walfile_name(pg_current_wal_lsn()), 8) END,
        (SELECT oid FROM pg_database WHERE datname = current_database()), 'message'::regclass::oid)
$$;
