"""How fast a mailing goes out, and what reads for people who look on need."""

from pathlib import Path

from alembic import op

from mailing.database.migrations import execute_script

revision = "0010"
down_revision = "0009"

SCHEMA = Path(__file__).with_name("0010_pace.sql")


def upgrade() -> None:
    execute_script(op.get_bind(), SCHEMA)


def downgrade() -> None:
    op.execute("DROP INDEX attempt_newest, message_waiting")
    op.execute("DROP TRIGGER note_pace ON message")
    op.execute("DROP FUNCTION note_pace")
    op.execute("DROP TABLE mailing_pace")
