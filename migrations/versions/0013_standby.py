"""A standby is the database it follows: it answers what reads."""

from pathlib import Path

from alembic import op

from mailing.database.migrations import execute_script

revision = "0013"
down_revision = "0012"

SCHEMA = Path(__file__).with_name("0013_standby.sql")


def upgrade() -> None:
    execute_script(op.get_bind(), SCHEMA)


def downgrade() -> None:
    op.execute("""
        CREATE OR REPLACE FUNCTION database_home() RETURNS text STABLE LANGUAGE sql AS $$
            SELECT concat_ws('/', (SELECT system_identifier FROM pg_control_system()),
                left(pg_walfile_name(pg_current_wal_lsn()), 8),
                (SELECT oid FROM pg_database WHERE datname = current_database()), 'message'::regclass::oid)
        $$""")
