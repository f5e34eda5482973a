"""A mailing is sent only after its release; one that is not released is a draft."""

from pathlib import Path

from alembic import op

from mailing.database.migrations import execute_script

revision = "0019"
down_revision = "0018"

SCHEMA = Path(__file__).with_name("0019_release.sql")

# Before, there was no way to keep a mailing from its start: a draft is cancelled.
_DOWN = """
    DROP TABLE mailing_release;
    DROP TRIGGER mailing_created_released ON mailing;
    DROP TRIGGER mailing_released ON mailing;
    DROP FUNCTION mailing_released();
    UPDATE mailing SET status = 'cancelled' WHERE status = 'draft';
    DROP INDEX mailing_open;
    CREATE INDEX mailing_open ON mailing (id) WHERE status IN ('scheduled', 'running', 'paused');
    ALTER TABLE mailing
        DROP CONSTRAINT mailing_release_told,
        DROP CONSTRAINT mailing_released,
        DROP CONSTRAINT mailing_launched,
        DROP CONSTRAINT mailing_status_check,
        DROP COLUMN content_revision,
        DROP COLUMN released_revision,
        DROP COLUMN released_at,
        DROP COLUMN released_by,
        ALTER COLUMN status SET DEFAULT 'scheduled',
        ADD CONSTRAINT mailing_status_check
            CHECK (status IN ('scheduled', 'running', 'paused', 'finished', 'cancelled')),
        ADD CONSTRAINT mailing_check3
            CHECK ((launched_at IS NULL) = (status = 'scheduled') OR status IN ('cancelled', 'finished'));
"""


def upgrade() -> None:
    execute_script(op.get_bind(), SCHEMA)


def downgrade() -> None:
    for statement in _DOWN.split(";"):
        if statement.strip():
            op.execute(statement)
