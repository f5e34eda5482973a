"""Mailing's own schema."""

from pathlib import Path

from alembic import op

from mailing.database.migrations import execute_script

revision = "0002"
down_revision = "0001"

SCHEMA = Path(__file__).with_name("0002_mailing.sql")

# everything but Procrastinate's and Alembic's, which other revisions have made
DROP = """
DO $$
DECLARE it record;
BEGIN
    FOR it IN SELECT oid::regclass AS name FROM pg_class
              WHERE relkind = 'r' AND relname !~ '^(procrastinate|alembic)_'
                  AND relnamespace = current_schema()::regnamespace
    LOOP
        EXECUTE 'DROP TABLE ' || it.name || ' CASCADE';
    END LOOP;
    FOR it IN SELECT oid::regprocedure AS name FROM pg_proc
              WHERE proname NOT LIKE 'procrastinate%' AND pronamespace = current_schema()::regnamespace
    LOOP
        EXECUTE 'DROP FUNCTION ' || it.name || ' CASCADE';
    END LOOP;
    FOR it IN SELECT oid::regtype AS name FROM pg_type
              WHERE typtype = 'd' AND typnamespace = current_schema()::regnamespace
    LOOP
        EXECUTE 'DROP DOMAIN ' || it.name || ' CASCADE';
    END LOOP;
END $$
"""


def upgrade() -> None:
    execute_script(op.get_bind(), SCHEMA)


def downgrade() -> None:
    op.execute(DROP)
