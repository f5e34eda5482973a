"""Files of clients that were uploaded to be imported, and the search of clients."""

from pathlib import Path

from alembic import op

from mailing.database.migrations import execute_script

revision = "0005"
down_revision = "0004"

SCHEMA = Path(__file__).with_name("0005_upload.sql")


def upgrade() -> None:
    execute_script(op.get_bind(), SCHEMA)


def downgrade() -> None:
    op.execute("DROP TABLE upload_refusal, upload_piece, upload")
    op.execute("DROP INDEX client_by_phone_end, client_by_timezone, client_opted_out")
