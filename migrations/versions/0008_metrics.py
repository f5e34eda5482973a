"""What workers count, and the audits of the counters."""

from pathlib import Path

from alembic import op

from mailing.database.migrations import execute_script

revision = "0008"
down_revision = "0007"

SCHEMA = Path(__file__).with_name("0008_metrics.sql")


def upgrade() -> None:
    execute_script(op.get_bind(), SCHEMA)


def downgrade() -> None:
    op.execute("DROP TABLE tally, count_audit")
