"""Run every pending migration in one transaction, over the connection of `mailing.database.migrations.migrate`."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], transaction_per_migration=False)
with context.begin_transaction():
    context.run_migrations()
