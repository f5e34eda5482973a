"""Procrastinate's schema, frozen at 3.10.0 so that a later library can't change what this revision means."""

from pathlib import Path

from alembic import op

from mailing.database.migrations import execute_script

revision = "0001"
down_revision = None

SCHEMA = Path(__file__).with_name("0001_procrastinate_3_10_0.sql")

DROP = """
DO $$
DECLARE it record;
BEGIN
    DROP TABLE procrastinate_events, procrastinate_periodic_defers, procrastinate_jobs, procrastinate_workers CASCADE;
    FOR it IN SELECT oid::regprocedure AS name FROM pg_proc
              WHERE proname LIKE 'procrastinate%' AND pronamespace = current_schema()::regnamespace LOOP
        EXECUTE 'DROP FUNCTION ' || it.name || ' CASCADE';
    END LOOP;
    DROP TYPE procrastinate_job_to_defer_v1, procrastinate_job_event_type, procrastinate_job_status;
END $$
"""


def upgrade() -> None:
    bind = op.get_bind()
    bind.exec_driver_sql("SELECT 1")  # asyncpg's BEGIN is lazy: without a statement the script would commit by itself
    execute_script(bind, SCHEMA)


def downgrade() -> None:
    op.execute(DROP)
