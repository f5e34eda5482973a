"""Jobs that wait stand in the queue of their kind: the one they were enqueued in is left to them alone."""

from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    op.execute("""
        UPDATE procrastinate_jobs j SET queue_name = q.queue_name
        FROM (VALUES ('plan_mailing', 'planning'), ('send_mailing', 'sending'), ('settle_mailing', 'settling'),
                     ('sweep', 'upkeep'), ('uploads', 'upkeep'), ('report', 'reporting'),
                     ('import_upload', 'importing'), ('audit', 'housekeeping'), ('retention', 'housekeeping')
             ) q (task_name, queue_name)
        WHERE j.task_name = q.task_name AND j.status = 'todo'""")


def downgrade() -> None:
    op.execute("UPDATE procrastinate_jobs SET queue_name = 'mailing' WHERE status = 'todo'")
