"""What happened to one mailing, message or client, in the order of time."""

from pathlib import Path

from alembic import op

from mailing.database.migrations import execute_script

revision = "0009"
down_revision = "0008"

SCHEMA = Path(__file__).with_name("0009_events.sql")


def upgrade() -> None:
    execute_script(op.get_bind(), SCHEMA)


def downgrade() -> None:
    op.execute("ALTER TABLE attempt DROP COLUMN mailing_id")
    op.execute("ALTER TABLE event DROP COLUMN request_id")
    op.execute("DROP INDEX event_of_mailing, event_of_audience, event_of_message, event_of_client, event_of_all")
    for whose in ("mailing", "message", "client"):
        op.execute(f"CREATE INDEX event_of_{whose} ON event ({whose}_id, id) WHERE {whose}_id IS NOT NULL")
