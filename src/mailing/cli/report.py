"""`mailing report`: the report of a day."""

import sys
from datetime import datetime

import click

from mailing.cli.database import with_database
from mailing.cli.options import example
from mailing.cli.runtime import configured
from mailing.database.clock import database_now
from mailing.database.engine import Sessions, in_transaction
from mailing.reports import on_demand


@click.command(epilog=example("mailing report --date 2026-12-01 --dry-run"))
@click.option("--date", "day", type=click.DateTime(["%Y-%m-%d"]), help="The local day. Default: yesterday.")
@click.option("--dry-run", is_flag=True, help="Print the report instead of sending it.")
def report(day: datetime | None, dry_run: bool) -> None:
    """Send or print the report of one day."""
    settings = configured()

    async def work(sessions: Sessions) -> int:
        now = await in_transaction(sessions, database_now)
        chosen = day.date() if day else await on_demand.newest_day(sessions, settings, now=now)
        if dry_run:
            click.echo(await on_demand.text_of_report(sessions, settings, chosen, now=now))
            return 0
        answer = await on_demand.send_report(sessions, settings, chosen, now=now)
        click.echo(on_demand.describe(answer))
        return on_demand.exit_code(answer)

    sys.exit(with_database(work, settings))
