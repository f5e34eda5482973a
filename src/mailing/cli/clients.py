"""Import and export clients, with a progress bar on standard error."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from mailing.clients.csv_transfer import explain_commit_failure, export_clients, import_clients
from mailing.clients.schemas import ImportResult
from mailing.database.engine import Sessions, transaction
from mailing.events import COMMAND_LINE

CHUNK_BYTES = 256 * 1024


async def import_file(sessions: Sessions, path: Path, *, size: int) -> ImportResult:
    """Store all valid rows in one transaction, so that an interrupted import stores nothing. `size` is in bytes.

    Raise Unavailable if the database fails, with the reason and whether anything may be stored.
    """
    columns = TextColumn("importing"), BarColumn(), DownloadColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task("importing", total=size)

        async def chunks() -> AsyncIterator[bytes]:
            with path.open("rb") as file:
                while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
                    yield chunk
                    progress.advance(bar, len(chunk))

        with explain_commit_failure():
            async with transaction(sessions) as session:
                return await import_clients(session, chunks(), by=COMMAND_LINE)


async def export_to(sessions: Sessions, output: BinaryIO) -> None:
    with Progress(TextColumn("exporting"), DownloadColumn(), console=Console(stderr=True)) as progress:
        bar = progress.add_task("exporting", total=None)
        async for chunk in export_clients(sessions):
            output.write(chunk)
            progress.advance(bar, len(chunk))
