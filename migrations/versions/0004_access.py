"""Users of the admin page, their sessions, failed sign-ins; keys that may only read."""

from pathlib import Path

from alembic import op

from mailing.database.migrations import execute_script

revision = "0004"
down_revision = "0003"

SCHEMA = Path(__file__).with_name("0004_access.sql")


def upgrade() -> None:
    execute_script(op.get_bind(), SCHEMA)


def downgrade() -> None:
    op.execute("ALTER TABLE api_key DROP COLUMN scope")
    op.execute("DROP TABLE sign_in_try, user_session, user_account")
