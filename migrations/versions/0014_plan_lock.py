"""Plans and changes of clients take turns; a message whose phone was erased is not sent again."""

from pathlib import Path

from alembic import op

from mailing.database.migrations import execute_script

revision = "0014"
down_revision = "0013"

SCHEMA = Path(__file__).with_name("0014_plan_lock.sql")


def upgrade() -> None:
    execute_script(op.get_bind(), SCHEMA)


def downgrade() -> None:
    op.execute("ALTER TABLE message DROP CONSTRAINT message_repeatable")
    op.execute("DROP FUNCTION lock_for_plan, lock_for_client_change")
    op.execute("DROP TABLE plan_lock")
