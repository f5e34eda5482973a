"""How fast a mailing goes out, and what reads for people who look on need."""

from pathlib import Path

from alembic import op

revision = "0010"
down_revision = "0009"

SCHEMA = Path(__file__).with_name("0010_pace.sql")


def upgrade() -> None:
    bind = op.get_bind()
    bind.connection.dbapi_connection.run_async(lambda connection: connection.execute(SCHEMA.read_text("utf-8")))  # type: ignore[union-attr]


def downgrade() -> None:
    op.execute("DROP INDEX attempt_newest, message_waiting")
    op.execute("DROP TRIGGER note_pace ON message")
    op.execute("DROP FUNCTION note_pace")
    op.execute("DROP TABLE mailing_pace")
