"""The command line: `mailing --help`. A composition root.

Exit codes: 0 done, 1 it failed, 2 wrong use or settings. An error is one clear line on standard error.
"""

import os
import sys
from collections.abc import Callable
from datetime import datetime
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click

from mailing import __version__
from mailing.cli.keys import key
from mailing.cli.person import person
from mailing.cli.runtime import (
    DOTENV,
    configured,
    engine_of,
    example,
    make_first_user,
    require_schema,
    run,
    until_signal,
    with_database,
)
from mailing.cli.users import admin
from mailing.database import migrations
from mailing.database.engine import Sessions
from mailing.database.errors import TROUBLE
from mailing.errors import ConfigurationError, MailingError
from mailing.observability import log, tracing

T = TypeVar("T")


def main() -> None:
    """Every refusal becomes one line and an exit code; a bug keeps its traceback."""
    try:
        cli()
    except ConfigurationError as error:
        for problem in error.problems:
            click.echo(f"mailing: {problem}", err=True)
        sys.exit(2)
    except MailingError as error:
        click.echo(f"mailing: {error}", err=True)
        sys.exit(1)
    except TROUBLE as error:
        click.echo(f"mailing: {_first_line(error)}", err=True)
        sys.exit(1)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mailing")
def cli() -> None:
    """Bulk SMS campaigns through an HTTP gateway, on PostgreSQL alone.

    Settings are environment variables MAILING_… or lines of .env; .env.example lists them all.
    """


def supervised(command: Callable[..., T]) -> Callable[..., T]:
    """`--supervised`: end with the process that holds our standard input."""

    @click.option("--supervised", is_flag=True, hidden=True)
    @wraps(command)
    def wrapped(*args: Any, supervised: bool, **kwargs: Any) -> T:  # noqa: ANN401 - whatever the command takes
        if supervised:
            from mailing.process.supervisor import end_with_parent

            end_with_parent()
        return command(*args, **kwargs)

    return wrapped


waiting = click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(0, 3600),
    default=0.0,
    help="Seconds to wait for the database and its schema; without it, refuse to start at once.",
)


@cli.command(epilog=example("mailing up"))
def up() -> None:
    """Run API, worker, embedded PostgreSQL and sandbox gateway until Ctrl-C.

    With MAILING_DATABASE_URL or MAILING_GATEWAY_URL set, yours are used instead; a database of yours is brought up to
    date by `mailing migrate` alone.
    """
    from mailing.cli.up import run_up

    run(run_up(configured(), click.echo))


@cli.command(epilog=example("mailing demo"))
@click.option("--clients", "count", type=click.IntRange(1, 1000), default=1000, show_default=True)
def demo(count: int) -> None:
    """Send one mailing to sample clients through a sandbox gateway, in a database that is thrown away afterwards."""
    from mailing.cli.demo import run_demo

    run(run_demo(count))


@cli.command(epilog=example("MAILING_DATABASE_URL=postgresql://mailing@db/mailing mailing migrate"))
def migrate() -> None:
    """Bring the database schema up to date, all steps in one transaction. No other command does."""
    settings = configured("database_url")

    async def work() -> None:
        async with engine_of(settings) as engine:
            await migrations.migrate(engine)

    run(work())
    click.echo("The schema is up to date.")


@cli.command(epilog=example("mailing api"))
@waiting
@supervised
def api(wait_s: float) -> None:
    """Serve the API, its documentation and health. Any number may run."""
    from mailing.app import create_app
    from mailing.web.server import serve

    settings = configured("database_url")
    tracing.start("mailing-api", os.environ)
    run(require_schema(settings, wait_s=wait_s))
    run(make_first_user(settings))
    serve(create_app(settings), host=settings.host, port=settings.port)


@cli.command(epilog=example("MAILING_GATEWAY_URL=https://probe.fbrq.cloud/v1 mailing worker"))
@waiting
@click.option("--check", is_flag=True, help="Start none; exit code 0: each worker running here makes progress.")
@click.option("--processes", type=click.IntRange(1, 64), default=1, show_default=True, help="How many to keep running.")
@click.option("--number", type=int, hidden=True)
@supervised
def worker(*, wait_s: float, check: bool, processes: int, number: int | None) -> None:
    """Plan and send mailings, retry, report. Any number may run, on any number of machines.

    With --processes each runs on its own, with its own connections to the gateway and to the database; one that dies is
    started again. One fills one processor: docs/scaling.md says how many pay.
    """
    from mailing.process import heartbeat
    from mailing.process.worker_pool import run_crew
    from mailing.worker import run_worker

    if check:
        sys.exit(heartbeat.main())

    settings = configured("database_url", "gateway_url")
    tracing.start("mailing-worker", os.environ)
    try:
        run(require_schema(settings, wait_s=wait_s))
        if processes > 1:
            run(run_crew(settings, processes))
            return
        with log.worker_context(number):
            run(until_signal(lambda stop: run_worker(settings, stop)))
    finally:
        tracing.finish()


@cli.command(epilog=example("mailing sandbox --port 8001 --latency 0.05"))
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="It shows what it is sent to whoever can reach it."
)
@click.option("--allowed-host", "allowed_hosts", multiple=True, help="A name to answer to, beside its own addresses.")
@click.option("--port", type=click.IntRange(0, 65535), default=8001, show_default=True)
@click.option("--latency", type=click.FloatRange(0, 3600), default=0.0, help="Seconds before each answer.")
@click.option("--ledger", type=click.Path(dir_okay=False, path_type=Path), help="Append what is accepted to this file.")
@supervised
def sandbox(*, host: str, allowed_hosts: tuple[str, ...], port: int, latency: float, ledger: Path | None) -> None:
    """Run the fake gateway: speaks the gateway's contract and shows what it accepted.

    Its behaviour is switched while it runs, by PUT /behaviour; its page is at /.
    """
    from mailing.gateway.sandbox import Behaviour, serve

    def started(bound: int) -> None:
        click.echo(f"sandbox gateway: http://{host}:{bound}/v1")

    try:
        behaviour = Behaviour(latency_s=latency)
        run(serve(host, port, behaviour, allowed_hosts=allowed_hosts, ledger_path=ledger, started=started))
    except KeyboardInterrupt:
        return


@cli.command("import", epilog=example("mailing import clients.csv"))
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def import_(file: Path) -> None:
    """Import clients from a CSV file: phone,operator_code,tag,timezone.

    Bad rows are left out and named on standard error, good ones stored; exit code 1 if there was a bad one.
    """
    from mailing.cli.clients import import_file

    settings = configured()
    result = run(with_database(settings, lambda sessions: import_file(sessions, file, size=file.stat().st_size)))
    for error in result.errors:
        click.echo(f"line {error.line}: {error.field}: {error.message}", err=True)
    if result.rejected > len(result.errors):
        click.echo(f"… and {result.rejected - len(result.errors)} more", err=True)
    click.echo(f"{result.created} created, {result.updated} updated, {result.rejected} rejected")
    sys.exit(1 if result.rejected else 0)


@cli.command(epilog=example("mailing export > clients.csv"))
def export() -> None:
    """Write all clients as CSV to standard output, as `import` reads it."""
    from mailing.cli.clients import export_to

    run(with_database(configured(), lambda sessions: export_to(sessions, sys.stdout.buffer)))


@cli.command(epilog=example("mailing report --date 2026-12-01 --dry-run"))
@click.option("--date", "day", type=click.DateTime(["%Y-%m-%d"]), help="The local day; yesterday if left out.")
@click.option("--dry-run", is_flag=True, help="Print the report and send nothing.")
def report(day: datetime | None, dry_run: bool) -> None:
    """Send, or print, the report of one day."""
    from mailing.reports import on_demand as command
    from mailing.reports.jobs import read_clock

    settings = configured()

    async def work(sessions: Sessions) -> int:
        now = await read_clock(sessions)
        chosen = day.date() if day else await command.newest_day(sessions, settings, now=now)
        if dry_run:
            click.echo(await command.text_of_report(sessions, settings, chosen, now=now))
            return 0
        answer = await command.send_report(sessions, settings, chosen, now=now)
        click.echo(command.describe(answer))
        return command.exit_code(answer)

    sys.exit(run(with_database(settings, work)))


@cli.command(epilog=example("mailing doctor"))
def doctor() -> None:
    """Look at configuration, database, schema, queue, gateway, mail and clock; say what is wrong and what to do.

    It changes nothing and sends nothing. Exit code 1 if something is wrong.
    """
    from mailing.cli.doctor import all_is_well

    sys.exit(0 if run(all_is_well(DOTENV, click.echo)) else 1)


@cli.command("resume-after-restore", epilog=example("mailing resume-after-restore --dry-run"))
@click.option("--dry-run", is_flag=True, help="Print what is found and change nothing.")
@click.option("--it-was-restored", is_flag=True, help="For a backup that can't be noticed, such as copied files.")
def resume_after_restore(*, dry_run: bool, it_was_restored: bool) -> None:
    """Send again from a database that was restored from a backup; until then nothing is sent from it.

    What may have been sent since the backup is repeated under the same ids or parked, as MAILING_ON_UNKNOWN says.
    """
    from mailing.cli import resume_after_restore as resuming

    settings = configured()
    plan = resuming.Plan(hold=settings.on_unknown == "hold", say=click.echo, told=it_was_restored)
    work = resuming.forecast if dry_run else resuming.resume
    run(with_database(settings, lambda sessions: work(sessions, plan)))


cli.add_command(admin)
cli.add_command(key)
cli.add_command(person)


def _first_line(error: Exception) -> str:
    cause = getattr(error, "orig", None) or error
    return f"{str(cause).strip().splitlines()[0] if str(cause).strip() else type(cause).__name__}"
