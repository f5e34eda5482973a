"""Clients, mailings, messages with their attempts and counters, API keys, reports."""

from pathlib import Path

from alembic import op

from mailing.database.migrations import execute_script

revision = "0002"
down_revision = "0001"

SCHEMA = Path(__file__).with_name("0002_mailings.sql")


def upgrade() -> None:
    execute_script(op.get_bind(), SCHEMA)


def downgrade() -> None:
    op.execute("DROP TABLE report, api_key, attempt, message, mailing_counts, mailing_text, mailing, client")
    op.execute("DROP FUNCTION count_messages, check_transitions, mailing_created, mailing_reworded")
