"""The database's clock as workers saw it last; why an import broke off."""

from pathlib import Path

from alembic import op

from mailing.database.migrations import execute_script

revision = "0017"
down_revision = "0016"

SCHEMA = Path(__file__).with_name("0017_clock.sql")


def upgrade() -> None:
    execute_script(op.get_bind(), SCHEMA)


def downgrade() -> None:
    op.execute("ALTER TABLE upload DROP COLUMN broke_off")
    op.execute("ALTER TABLE gateway DROP COLUMN clock_at")
