"""What the care for people's data needs: mailings that were blanked, and people who were erased."""

from pathlib import Path

from alembic import op

revision = "0006"
down_revision = "0005"

SCHEMA = Path(__file__).with_name("0006_care.sql")


def upgrade() -> None:
    bind = op.get_bind()
    bind.connection.dbapi_connection.run_async(lambda connection: connection.execute(SCHEMA.read_text("utf-8")))  # type: ignore[union-attr]


def downgrade() -> None:
    op.execute("DROP TRIGGER refuse_erased ON client")
    op.execute("DROP TRIGGER refuse_erased_change ON client")
    op.execute("DROP FUNCTION refuse_erased, erasure_hash")
    op.execute("DROP TABLE erasure, erasure_key")
    op.execute("ALTER TABLE mailing DROP COLUMN blanked_at")
