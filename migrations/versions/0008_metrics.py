"""What workers count, and the audits of the counters."""

from pathlib import Path

from alembic import op

revision = "0008"
down_revision = "0007"

SCHEMA = Path(__file__).with_name("0008_metrics.sql")


def upgrade() -> None:
    bind = op.get_bind()
    bind.connection.dbapi_connection.run_async(lambda connection: connection.execute(SCHEMA.read_text("utf-8")))  # type: ignore[union-attr]


def downgrade() -> None:
    op.execute("DROP TABLE tally, count_audit")
