"""The rate of API keys."""

from pathlib import Path

from alembic import op

revision = "0007"
down_revision = "0006"

SCHEMA = Path(__file__).with_name("0007_limits.sql")


def upgrade() -> None:
    bind = op.get_bind()
    bind.connection.dbapi_connection.run_async(lambda connection: connection.execute(SCHEMA.read_text("utf-8")))  # type: ignore[union-attr]


def downgrade() -> None:
    op.execute("DROP TABLE api_allowance")
