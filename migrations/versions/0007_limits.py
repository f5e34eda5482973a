"""The rate of API keys."""

from pathlib import Path

from alembic import op

from mailing.database.migrations import execute_script

revision = "0007"
down_revision = "0006"

SCHEMA = Path(__file__).with_name("0007_limits.sql")


def upgrade() -> None:
    execute_script(op.get_bind(), SCHEMA)


def downgrade() -> None:
    op.execute("DROP TABLE api_allowance")
