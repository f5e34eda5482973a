-- Two roles that may do what their process does, and no more. As the owner of the schema, after each `mailing migrate`:
--
--     psql "$MAILING_DATABASE_URL" -v ON_ERROR_STOP=1 -f deploy/roles.sql
--     psql "$MAILING_DATABASE_URL" -c '\password mailing_api' -c '\password mailing_worker'     -- the first time
--
-- `mailing api` then gets the address of mailing_api, `mailing worker` that of mailing_worker. The owner's address is for
-- `migrate`, `key`, `import`, `report` and `resume-after-restore`, which people run. docs/security.md says why.
BEGIN;

DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'mailing_api') THEN CREATE ROLE mailing_api LOGIN; END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'mailing_worker') THEN CREATE ROLE mailing_worker LOGIN; END IF;
END $$;

REVOKE ALL ON ALL TABLES IN SCHEMA public FROM mailing_api, mailing_worker;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA public FROM mailing_api, mailing_worker;
REVOKE ALL ON FUNCTION forget_events FROM mailing_api, mailing_worker;

-- Both: is the schema the one this version needs? May sending go on here? How do things stand with the gateway?
GRANT SELECT ON alembic_version, restoration TO mailing_api, mailing_worker;
GRANT SELECT, UPDATE ON installation, gateway TO mailing_api, mailing_worker;
GRANT SELECT, INSERT ON event TO mailing_api, mailing_worker;
GRANT SELECT, INSERT, UPDATE ON worker_counter TO mailing_api, mailing_worker;
GRANT SELECT ON erasure, erasure_key TO mailing_api, mailing_worker; -- nobody erased is stored again
GRANT UPDATE ON plan_lock TO mailing_api, mailing_worker; -- the right to lock it: it has no rows
GRANT SELECT, INSERT, UPDATE ON message, attempt, mailing, mailing_text, mailing_counts, message_low_watermark
    TO mailing_api, mailing_worker;

-- The API: people's changes, and wake-ups for the worker. It writes no report.
GRANT SELECT, INSERT, UPDATE ON api_key TO mailing_api; -- admins make keys on their page
GRANT SELECT, INSERT ON mailing_release TO mailing_api; -- who released what; by trigger, and nobody changes it
GRANT SELECT ON gateway_calls TO mailing_api;
GRANT SELECT ON counter_audit, report, procrastinate_workers TO mailing_api; -- for /metrics
GRANT SELECT, INSERT, UPDATE, DELETE ON client, user_session, login_throttle TO mailing_api;
GRANT SELECT, INSERT, UPDATE ON user_account TO mailing_api; -- admins make users on their page
GRANT SELECT, INSERT, UPDATE, DELETE ON upload, upload_chunk TO mailing_api;
GRANT SELECT, DELETE ON upload_row_error TO mailing_api;
GRANT SELECT, INSERT, UPDATE ON mailing_throughput TO mailing_api; -- by trigger, where a person resolves a message
GRANT SELECT, INSERT ON idempotency_key TO mailing_api;
GRANT SELECT, INSERT, UPDATE ON api_rate_limit TO mailing_api;
GRANT SELECT, INSERT ON procrastinate_jobs, procrastinate_events TO mailing_api;
GRANT USAGE ON SEQUENCE procrastinate_jobs_id_seq, procrastinate_events_id_seq TO mailing_api;

-- The worker: it knows no keys. Clients it changes where it imports a file that somebody has uploaded.
GRANT SELECT, INSERT, UPDATE (operator_code, tag, timezone, updated_at) ON client TO mailing_worker;
GRANT SELECT, UPDATE, DELETE ON upload, upload_chunk TO mailing_worker;
GRANT SELECT, INSERT, DELETE ON upload_row_error TO mailing_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON mailing_throughput TO mailing_worker;
GRANT DELETE ON attempt TO mailing_worker; -- of mailings that closed long ago
GRANT SELECT, INSERT, UPDATE, DELETE ON gateway_calls, counter_audit TO mailing_worker;
GRANT SELECT, INSERT, UPDATE ON report TO mailing_worker;
GRANT SELECT, UPDATE, DELETE ON idempotency_key TO mailing_worker; -- it forgets old ones
GRANT EXECUTE ON FUNCTION forget_events TO mailing_worker; -- and events, but none about access
GRANT SELECT, INSERT, UPDATE, DELETE ON procrastinate_jobs, procrastinate_events, procrastinate_periodic_defers,
    procrastinate_workers TO mailing_worker;
GRANT USAGE ON SEQUENCE procrastinate_jobs_id_seq, procrastinate_events_id_seq, procrastinate_periodic_defers_id_seq,
    procrastinate_workers_id_seq TO mailing_worker;

COMMIT;
