"""What keeps the cost of a message the same however many there are."""

from pathlib import Path

from alembic import op

from mailing.database.migrations import execute_script

revision = "0012"
down_revision = "0011"

SCHEMA = Path(__file__).with_name("0012_growth.sql")


def upgrade() -> None:
    execute_script(op.get_bind(), SCHEMA)


def downgrade() -> None:
    op.execute(
        "ALTER TABLE message RESET (fillfactor, autovacuum_vacuum_scale_factor, autovacuum_analyze_scale_factor)"
    )
    op.execute("DROP TRIGGER move_front ON message")
    op.execute("DROP TRIGGER move_front_on ON message")
    op.execute("DROP FUNCTION move_front, raise_front")
    op.execute("""
        CREATE OR REPLACE FUNCTION mailing_created() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            INSERT INTO mailing_counts (mailing_id) VALUES (NEW.id);
            INSERT INTO mailing_text (mailing_id, revision, text) VALUES (NEW.id, NEW.text_revision, NEW.text);
            RETURN NULL;
        END $$""")
    op.execute("DROP TABLE message_front")
