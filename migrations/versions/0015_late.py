"""An acceptance that comes after its lease had run out ends the message as sent, though it waits again."""

from pathlib import Path

from alembic import op

from mailing.database.migrations import execute_script

revision = "0015"
down_revision = "0014"

SCHEMA = Path(__file__).with_name("0015_late.sql")
BEFORE = SCHEMA.with_name("0015_late_down.sql")


def upgrade() -> None:
    execute_script(op.get_bind(), SCHEMA)


def downgrade() -> None:
    execute_script(op.get_bind(), BEFORE)
