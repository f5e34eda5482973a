"""`mailing migrate`: upgrade the schema."""

import click

from mailing.cli.options import example
from mailing.cli.runtime import configured, run
from mailing.database.engine import open_engine
from mailing.database.migrations import migrate as upgrade


@click.command(epilog=example("MAILING_DATABASE_URL=postgresql://mailing@db/mailing mailing migrate"))
def migrate() -> None:
    """Upgrade the database schema, all revisions in one transaction. No other command changes it."""
    settings = configured("database_url")

    async def work() -> None:
        async with open_engine(str(settings.database_url), application="mailing-cli") as engine:
            await upgrade(engine)

    run(work())
    click.echo("The schema is up to date.")
