"""Events about people and mailings are forgotten after MAILING_RETENTION_DAYS."""

from pathlib import Path

from alembic import op

from mailing.database.migrations import execute_script

revision = "0011"
down_revision = "0010"

SCHEMA = Path(__file__).with_name("0011_forget_events.sql")


def upgrade() -> None:
    execute_script(op.get_bind(), SCHEMA)


def downgrade() -> None:
    op.execute("DROP FUNCTION forget_events")
