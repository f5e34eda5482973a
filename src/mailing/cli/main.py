"""The command line: `mailing --help`. A composition root.

Exit codes: 0 success, 1 failure, 2 wrong usage or settings. An error is one line on standard error.
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
from mailing.cli.gateway import gateway
from mailing.cli.keys import key
from mailing.cli.privacy import privacy
from mailing.cli.runtime import (
    configured,
    engine_of,
    example,
    make_first_user,
    require_schema,
    run,
    until_signal,
    with_database,
)
from mailing.cli.users import user
from mailing.database import migrations
from mailing.database.engine import Sessions
from mailing.database.error_messages import describe
from mailing.database.errors import DATABASE_ERRORS
from mailing.errors import ConfigurationError, MailingError
from mailing.observability import log, tracing
from mailing.settings import DOTENV

T = TypeVar("T")


def main() -> None:
    """Turn each expected error into one line and an exit code. A bug keeps its traceback."""
    try:
        cli()
    except ConfigurationError as error:
        for problem in error.problems:
            click.echo(f"mailing: {problem}", err=True)
        sys.exit(2)
    except MailingError as error:
        click.echo(f"mailing: {error}", err=True)
        sys.exit(1)
    except DATABASE_ERRORS as error:
        click.echo(f"mailing: {describe(error)}", err=True)
        sys.exit(1)


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, epilog=example("mailing up"))
@click.version_option(__version__, prog_name="mailing")
def cli() -> None:
    """Send bulk SMS through an HTTP gateway, with PostgreSQL as the only dependency.

    Settings are environment variables named MAILING_…, or lines of .env. See .env.example for the list.
    """


def supervised(command: Callable[..., T]) -> Callable[..., T]:
    """Add `--supervised`: end when the process that holds our standard input ends."""

    @click.option("--supervised", is_flag=True, hidden=True)
    @wraps(command)
    def wrapped(*args: Any, supervised: bool, **kwargs: Any) -> T:  # noqa: ANN401 - whatever the command takes
        if supervised:
            from mailing.process.supervisor import exit_with_parent

            exit_with_parent()
        return command(*args, **kwargs)

    return wrapped


waiting = click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(0, 3600),
    default=0.0,
    help="Seconds to wait for the database and its schema. By default the command fails at once.",
)


@cli.command(epilog=example("mailing up"))
def up() -> None:
    """Run API, worker, embedded PostgreSQL and sandbox gateway until Ctrl-C.

    MAILING_DATABASE_URL and MAILING_GATEWAY_URL replace the embedded database and the sandbox. Migrate a database of
    your own with `mailing migrate`.
    """
    from mailing.cli.up import run_up

    run(run_up(configured(), click.echo))


@cli.command(epilog=example("mailing demo"))
@click.option("--clients", "count", type=click.IntRange(1, 1000), default=1000, show_default=True)
def demo(count: int) -> None:
    """Send one mailing to sample clients through a sandbox gateway, in a temporary database."""
    from mailing.cli.demo import run_demo

    run(run_demo(count))


@cli.command(epilog=example("MAILING_DATABASE_URL=postgresql://mailing@db/mailing mailing migrate"))
def migrate() -> None:
    """Upgrade the database schema, all revisions in one transaction. No other command changes it."""
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
    """Serve the API, its documentation, the admin page, health and metrics. Any number may run."""
    from mailing.app import create_app
    from mailing.web.server import serve

    settings = configured("database_url")
    tracing.start("mailing-api", os.environ)
    run(require_schema(settings, wait_s=wait_s))
    run(make_first_user(settings))
    serve(create_app(settings), host=settings.host, port=settings.port)


@cli.command(epilog=example("MAILING_GATEWAY_URL=https://probe.fbrq.cloud/v1 mailing worker"))
@waiting
@click.option(
    "--health", is_flag=True, help="Do not start a worker. Exit 0 if every worker on this host makes progress."
)
@click.option(
    "--processes", type=click.IntRange(1, 64), default=1, show_default=True, help="Worker processes to keep running."
)
@click.option("--number", type=int, hidden=True)
@supervised
def worker(*, wait_s: float, health: bool, processes: int, number: int | None) -> None:
    """Plan and send mailings, retry, report. Any number may run, on any number of machines.

    A worker uses one processor core. With --processes, each process has its own connections to the gateway and the
    database, and one that dies is restarted. docs/scaling.md says how many are worthwhile.
    """
    from mailing.gateway.providers import needs_of
    from mailing.process import heartbeat
    from mailing.process.worker_pool import run_worker_pool
    from mailing.worker import run_worker

    if health:
        sys.exit(heartbeat.main())

    settings = configured("database_url", "gateway_url", more=needs_of)
    tracing.start("mailing-worker", os.environ)
    try:
        run(require_schema(settings, wait_s=wait_s))
        if processes > 1:
            run(run_worker_pool(settings, processes))
            return
        with log.worker_context(number):
            run(until_signal(lambda stop: run_worker(settings, stop)))
    finally:
        tracing.finish()


@cli.command(epilog=example("mailing sandbox --port 8001 --latency 0.05"))
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Anyone who can reach it sees the messages it was sent."
)
@click.option(
    "--allowed-host", "allowed_hosts", multiple=True, help="A host name to answer to, beside its own addresses."
)
@click.option("--port", type=click.IntRange(0, 65535), default=8001, show_default=True)
@click.option(
    "--provider",
    type=click.Choice(["probe", "kannel", "twilio", "infobip", "smsc"]),
    default="probe",
    show_default=True,
    help="Whose API to speak. Receipts are sent to the address that a call gives.",
)
@click.option("--latency", type=click.FloatRange(0, 3600), default=0.0, help="Seconds before each answer.")
@click.option(
    "--ledger", type=click.Path(dir_okay=False, path_type=Path), help="Append each accepted message to this file."
)
@supervised
def sandbox(
    *, host: str, allowed_hosts: tuple[str, ...], port: int, provider: str, latency: float, ledger: Path | None
) -> None:
    """Run a fake gateway that speaks a provider's API and shows what it accepted.

    Change its behaviour while it runs with PUT /behaviour. Its page is at /.
    """
    from mailing.gateway.sandbox import Behaviour, base_path_of, serve

    def started(bound: int) -> None:
        click.echo(f"sandbox gateway: http://{host}:{bound}{base_path_of(provider)}")

    try:
        behaviour = Behaviour(latency_s=latency)
        run(
            serve(
                host,
                port,
                behaviour,
                provider=provider,
                allowed_hosts=allowed_hosts,
                ledger_path=ledger,
                started=started,
            )
        )
    except KeyboardInterrupt:
        return


@cli.command("import", epilog=example("mailing import clients.csv"))
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def import_(file: Path) -> None:
    """Import clients from a CSV file: phone,operator_code,tag,timezone,opted_out.

    Valid rows are stored. Invalid rows are listed on standard error, and the exit code is then 1.
    """
    from mailing.cli.clients import import_file

    settings = configured()
    result = run(with_database(settings, lambda sessions: import_file(sessions, file, size=file.stat().st_size)))
    for error in result.errors:
        click.echo(f"line {error.line}: {error.field}: {error.message}", err=True)
    if result.rejected > len(result.errors):
        click.echo(f"… and {result.rejected - len(result.errors)} more", err=True)
    normalised = f", {result.normalised} normalised" if result.normalised else ""
    opted_out = f", {result.opted_out} opted out" if result.opted_out else ""
    click.echo(f"{result.created} created, {result.updated} updated, {result.rejected} rejected{normalised}{opted_out}")
    sys.exit(1 if result.rejected else 0)


@cli.command(epilog=example("mailing export > clients.csv"))
def export() -> None:
    """Write all clients to standard output as CSV, in the format that `import` reads."""
    from mailing.cli.clients import export_to

    run(with_database(configured(), lambda sessions: export_to(sessions, sys.stdout.buffer)))


@cli.command(epilog=example("mailing report --date 2026-12-01 --dry-run"))
@click.option("--date", "day", type=click.DateTime(["%Y-%m-%d"]), help="The local day. Default: yesterday.")
@click.option("--dry-run", is_flag=True, help="Print the report instead of sending it.")
def report(day: datetime | None, dry_run: bool) -> None:
    """Send or print the report of one day."""
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
    """Check configuration, database, schema, queue, gateway, mail and clock, and print what to do.

    It changes nothing and sends nothing. The exit code is 1 if a check fails.
    """
    from mailing.cli.doctor import print_findings

    sys.exit(0 if run(print_findings(DOTENV, click.echo)) else 1)


@cli.command("resume-after-restore", epilog=example("mailing resume-after-restore --dry-run"))
@click.option("--dry-run", is_flag=True, help="Print what would be done and change nothing.")
@click.option(
    "--force", "forced", is_flag=True, help="Act even if no restore was detected, as after copying files back."
)
@click.option(
    "--nothing-was-lost", "lossless", is_flag=True, help="After a failover without loss: enable sending, mark nothing."
)
def resume_after_restore(*, dry_run: bool, forced: bool, lossless: bool) -> None:
    """Enable sending from a database that was restored from a backup. Until then nothing is sent from it.

    Messages that may have been sent since the backup are sent again under the same ids, or parked as unknown,
    depending on MAILING_ON_UNKNOWN.
    """
    from mailing.cli.resume_after_restore import Options, forecast, resume, resume_without_loss
    from mailing.gateway.providers import holds_unknown

    if lossless and (dry_run or forced):
        raise click.UsageError("--nothing-was-lost goes with no other option")
    settings = configured()
    options = Options(hold=holds_unknown(settings), echo=click.echo, forced=forced)
    work = resume_without_loss if lossless else forecast if dry_run else resume
    run(with_database(settings, lambda sessions: work(sessions, options)))


cli.add_command(user)
cli.add_command(key)
cli.add_command(privacy)
cli.add_command(gateway)
