"""What workers share towards the gateway, test sends, events, idempotency keys."""

from pathlib import Path

from alembic import op

from mailing.database.migrations import execute_script

revision = "0003"
down_revision = "0002"

SCHEMA = Path(__file__).with_name("0003_control.sql")


def upgrade() -> None:
    execute_script(op.get_bind(), SCHEMA)


def downgrade() -> None:
    op.execute("DROP TABLE gateway, gateway_calls, restoration, event, idempotency_key")
    op.execute("DROP TRIGGER refuse_ids ON message")
    op.execute("DROP FUNCTION refuse_ids, database_home")
    op.execute("ALTER TABLE mailing DROP COLUMN test_of")
