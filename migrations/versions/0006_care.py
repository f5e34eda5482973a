"""What the care for people's data needs: mailings that were blanked, and people who were erased."""

from pathlib import Path

from alembic import op

from mailing.database.migrations import execute_script

revision = "0006"
down_revision = "0005"

SCHEMA = Path(__file__).with_name("0006_care.sql")


def upgrade() -> None:
    execute_script(op.get_bind(), SCHEMA)


def downgrade() -> None:
    op.execute("DROP TRIGGER refuse_erased ON client")
    op.execute("DROP TRIGGER refuse_erased_change ON client")
    op.execute("DROP FUNCTION refuse_erased, erasure_hash")
    op.execute("DROP TABLE erasure, erasure_key")
    op.execute("ALTER TABLE mailing DROP COLUMN blanked_at")
