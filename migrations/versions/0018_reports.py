"""A report stores the time it tells about, and an API key who made it."""

from pathlib import Path

from alembic import op

from mailing.database.migrations import execute_script

revision = "0018"
down_revision = "0017"

SCHEMA = Path(__file__).with_name("0018_reports.sql")


def upgrade() -> None:
    execute_script(op.get_bind(), SCHEMA)


def downgrade() -> None:
    op.execute("ALTER TABLE report DROP CONSTRAINT report_once, DROP CONSTRAINT report_period")
    op.execute("ALTER TABLE report DROP COLUMN zone, DROP COLUMN starts, DROP COLUMN ends")
    op.execute("ALTER TABLE api_key DROP COLUMN created_by")
