"""Users of the admin page, their sessions, failed sign-ins; keys that may only read."""

from pathlib import Path

from alembic import op

revision = "0004"
down_revision = "0003"

SCHEMA = Path(__file__).with_name("0004_access.sql")


def upgrade() -> None:
    bind = op.get_bind()
    bind.connection.dbapi_connection.run_async(lambda connection: connection.execute(SCHEMA.read_text("utf-8")))  # type: ignore[union-attr]


def downgrade() -> None:
    op.execute("ALTER TABLE api_key DROP COLUMN scope")
    op.execute("DROP TABLE sign_in_try, user_session, user_account")
