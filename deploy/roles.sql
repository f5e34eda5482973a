-- Two roles with the privileges that their process needs. Run it as the owner of the schema after each `mailing migrate`:
--
--     psql "$MAILING_DATABASE_URL" -v ON_ERROR_STOP=1 -f deploy/roles.sql
--     psql "$MAILING_DATABASE_URL" -c '\password mailing_api' -c '\password mailing_worker'     -- the first time
--
-- `mailing api` then connects as mailing_api, `mailing worker` as mailing_worker. Commands that people run connect as the
-- owner: `migrate`, `key`, `import`, `report`, `resume-after-restore`. docs/security.md explains it.
BEGIN;

DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'mailing_api') THEN CREATE ROLE mailing_api LOGIN; END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'mailing_worker') THEN CREATE ROLE mailing_worker LOGIN; END IF;
END $$;

REVOKE ALL ON ALL TABLES IN SCHEMA public FROM mailing_api, mailing_worker;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA public FROM mailing_api, mailing_worker;
REVOKE ALL ON FUNCTION forget_events, suppress, lock_for_suppression, opt_out FROM mailing_api, mailing_worker;

-- Both roles: check the schema's version, whether this database may send, and the state of the gateway.
GRANT SELECT ON alembic_version, restoration TO mailing_api, mailing_worker;
GRANT SELECT, UPDATE ON gateway TO mailing_api, mailing_worker;
GRANT SELECT, UPDATE (database_identity, clock_at) ON installation TO mailing_api, mailing_worker; -- never the key
GRANT SELECT, INSERT ON event TO mailing_api, mailing_worker;
GRANT SELECT, INSERT, UPDATE ON witness TO mailing_api, mailing_worker;
GRANT SELECT, INSERT, UPDATE ON worker_counter TO mailing_api, mailing_worker;
GRANT SELECT ON erasure, erasure_key TO mailing_api, mailing_worker; -- an erased phone is not stored again
GRANT SELECT ON suppression TO mailing_api, mailing_worker; -- changed by triggers, and by the functions of an import:
GRANT EXECUTE ON FUNCTION lock_for_suppression, opt_out TO mailing_api, mailing_worker; -- they opt out, never in
GRANT SELECT ON former_phone TO mailing_api, mailing_worker; -- no phone gets a mailing twice
GRANT UPDATE ON plan_lock TO mailing_api, mailing_worker; -- the right to lock it; it has no rows
GRANT SELECT, INSERT, UPDATE ON message, attempt, mailing, mailing_text, mailing_counts, message_low_watermark
    TO mailing_api, mailing_worker;
GRANT SELECT, INSERT ON message_lease TO mailing_api, mailing_worker; -- by trigger

-- The API: changes by users, and jobs for the worker. It does not write reports.
GRANT SELECT, INSERT, UPDATE ON api_key TO mailing_api; -- admins create keys on the admin page
GRANT INSERT ON former_phone TO mailing_api; -- by trigger, when a client leaves a phone
GRANT SELECT, INSERT ON mailing_release TO mailing_api; -- written by a trigger, never changed
GRANT SELECT ON gateway_calls TO mailing_api;
GRANT SELECT, INSERT, UPDATE ON receipt, receipt_counts TO mailing_api; -- what they resolve, the worker resolves
GRANT SELECT ON counter_audit, report, procrastinate_workers TO mailing_api; -- for /metrics
GRANT SELECT, INSERT, UPDATE, DELETE ON client, user_session, login_throttle TO mailing_api;
GRANT SELECT, INSERT, UPDATE ON user_account TO mailing_api; -- admins create users on the admin page
GRANT SELECT, INSERT, UPDATE, DELETE ON upload, upload_chunk TO mailing_api;
GRANT SELECT, DELETE ON upload_row_error TO mailing_api;
GRANT SELECT, INSERT, UPDATE ON mailing_throughput TO mailing_api; -- by trigger, when a person resolves a message
GRANT SELECT, INSERT ON idempotency_key TO mailing_api;
GRANT SELECT, INSERT, UPDATE ON api_rate_limit TO mailing_api;
GRANT SELECT, INSERT ON procrastinate_jobs, procrastinate_events TO mailing_api;
GRANT USAGE ON SEQUENCE procrastinate_jobs_id_seq, procrastinate_events_id_seq TO mailing_api;

-- The worker: it cannot read keys. It changes clients only when it imports an uploaded file.
GRANT SELECT, INSERT, UPDATE (operator_code, tag, timezone, updated_at) ON client TO mailing_worker;
GRANT SELECT, UPDATE, DELETE ON upload, upload_chunk TO mailing_worker;
GRANT SELECT, INSERT, DELETE ON upload_row_error TO mailing_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON mailing_throughput TO mailing_worker;
GRANT SELECT, DELETE ON receipt TO mailing_worker;
GRANT SELECT ON receipt_counts TO mailing_worker; -- for the report
GRANT USAGE ON SEQUENCE message_id_seq TO mailing_worker; -- a plan draws the ids of a slice before it writes its rows
GRANT DELETE ON attempt, former_phone TO mailing_worker; -- of mailings that closed long ago
GRANT DELETE ON message_lease TO mailing_worker; -- expired ones
GRANT SELECT, INSERT, UPDATE, DELETE ON gateway_calls, counter_audit TO mailing_worker;
GRANT SELECT, INSERT, UPDATE ON report TO mailing_worker;
GRANT DELETE ON witness TO mailing_worker; -- of processes that ended long ago
GRANT SELECT, UPDATE, DELETE ON idempotency_key TO mailing_worker; -- it deletes old ones
GRANT EXECUTE ON FUNCTION forget_events TO mailing_worker; -- and old events, but none about access
GRANT SELECT, INSERT, UPDATE, DELETE ON procrastinate_jobs, procrastinate_events, procrastinate_periodic_defers,
    procrastinate_workers TO mailing_worker;
GRANT USAGE ON SEQUENCE procrastinate_jobs_id_seq, procrastinate_events_id_seq, procrastinate_periodic_defers_id_seq,
    procrastinate_workers_id_seq TO mailing_worker;

COMMIT;
