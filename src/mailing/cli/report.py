"""`mailing report`: the report of a day."""

import sys
from datetime import date

import click

from mailing.cli.database import with_database
from mailing.cli.options import example
from mailing.cli.runtime import configured
from mailing.database.clock import database_now
from mailing.database.engine import Sessions, in_transaction
from mailing.reports import on_demand


def _day(_context: click.Context, _parameter: click.Parameter, value: str | None) -> date | None:
    try:
        return None if value is None else date.fromisoformat(value)
    except ValueError:
        raise click.BadParameter(f"{value!r} is not a day, such as 2026-12-01") from None


@click.command(epilog=example("mailing report --date 2026-12-01 --dry-run"))
@click.option("--date", "day", metavar="YYYY-MM-DD", callback=_day, help="The local day. Default: yesterday.")
@click.option("--dry-run", is_flag=True, help="Print the report instead of sending it.")
def report(day: date | None, dry_run: bool) -> None:
    """Send or print the report of one day."""
    settings = configured()

    async def work(sessions: Sessions) -> int:
        now = await in_transaction(sessions, database_now)
        chosen = day or await on_demand.newest_day(sessions, settings, now=now)
        if dry_run:
            click.echo(await on_demand.text_of_report(sessions, settings, chosen, now=now))
            return 0
        answer = await on_demand.send_report(sessions, settings, chosen, now=now)
        click.echo(on_demand.describe(answer))
        return on_demand.exit_code(answer)

    sys.exit(with_database(work, settings))
