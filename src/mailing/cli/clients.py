"""Import and export clients, with a progress bar if standard error is a terminal."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from pathlib import Path
from threading import Thread
from typing import BinaryIO, TypeVar

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn

from mailing.cli.database import with_database
from mailing.cli.options import example
from mailing.clients.csv_transfer import explain_failure, export_clients, import_clients
from mailing.clients.schemas import ImportResult
from mailing.database.engine import Sessions, in_transaction
from mailing.database.error_messages import may_be_committed
from mailing.events import COMMAND_LINE

T = TypeVar("T")

CHUNK_BYTES = 256 * 1024


@click.command("import", epilog=example("mailing import clients.csv"))
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def import_(file: Path) -> None:
    """Import clients from a CSV file: phone,operator_code,tag,timezone,opted_out.

    Valid rows are stored. Invalid rows are listed on standard error, and the exit code is then 1.
    """
    result = with_database(lambda sessions: import_file(sessions, file, size=file.stat().st_size))
    for error in result.errors:
        click.echo(f"line {error.line}: {error.field}: {error.message}", err=True)
    if result.rejected > len(result.errors):
        click.echo(f"… and {result.rejected - len(result.errors)} more", err=True)
    normalised = f", {result.normalised} normalised" if result.normalised else ""
    opted_out = f", {result.opted_out} opted out" if result.opted_out else ""
    click.echo(f"{result.created} created, {result.updated} updated, {result.rejected} rejected{normalised}{opted_out}")
    sys.exit(1 if result.rejected else 0)


@click.command(epilog=example("mailing export > clients.csv"))
def export() -> None:
    """Write all clients to standard output as CSV, in the format that `import` reads."""
    with_database(lambda sessions: export_to(sessions, sys.stdout.buffer))


async def import_file(sessions: Sessions, path: Path, *, size: int) -> ImportResult:
    """Store all valid rows in one transaction, so that an interrupted import stores nothing. `size` is in bytes.

    Raise Unavailable if the database fails, with the reason and whether anything may be stored.
    """
    columns = TextColumn("importing"), BarColumn(), DownloadColumn(), TimeRemainingColumn()
    with _progress(*columns) as progress:
        bar = progress.add_task("importing", total=size)

        async def chunks() -> AsyncIterator[bytes]:
            with await _in_daemon_thread(lambda: path.open("rb", buffering=0)) as file:
                while chunk := await _in_daemon_thread(lambda: file.read(CHUNK_BYTES)):
                    yield chunk
                    progress.advance(bar, len(chunk))

        with explain_failure(may_be_stored=may_be_committed):  # of the COMMIT; `import_clients` explains all others
            return await in_transaction(sessions, import_clients, chunks(), by=COMMAND_LINE)


async def export_to(sessions: Sessions, output: BinaryIO) -> None:
    with _progress(TextColumn("exporting"), DownloadColumn()) as progress:
        bar = progress.add_task("exporting", total=None)
        async for chunk in export_clients(sessions):
            output.write(chunk)
            progress.advance(bar, len(chunk))


async def _in_daemon_thread(work: Callable[[], T]) -> T:
    """Open or read in a thread that does not outlive a Ctrl-C: a named pipe or a terminal may never answer."""
    outcome: Future[T] = Future()

    def run() -> None:
        outcome.set_running_or_notify_cancel()
        try:
            outcome.set_result(work())
        except OSError as error:
            outcome.set_exception(error)

    Thread(target=run, daemon=True).start()
    return await asyncio.wrap_future(outcome)


def _progress(*columns: ProgressColumn) -> Progress:
    console = Console(stderr=True)
    return Progress(*columns, console=console, disable=not console.is_terminal)
