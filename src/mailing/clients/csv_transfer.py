"""Clients in and out as CSV: `phone,operator_code,tag,timezone`, in memory that does not grow with the file.

Import: the whole upload is read and judged first, into a temporary file, and only then does a transaction begin. A
slow upload holds no connection, one that breaks off stores nothing. The rows are stored as if one after another: of
rows with the same phone the last one counts. What the file does not say stays as it is: opt-outs, and the tags or
operator codes of a file without that column.

Export: the same columns, so that the file can be imported again. Each page is a short transaction of its own, because
a slow reader must not hold one open; a client changed meanwhile comes as it was or as it is, and never twice.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from tempfile import SpooledTemporaryFile
from typing import IO

from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.clients.csv_reader import COLUMNS, CsvReader, RejectedField
from mailing.clients.csv_validation import PIECE, Judging, beside_the_loop
from mailing.clients.repository import ERASED, ExportedClient, Stored, export_page, import_staged
from mailing.clients.schemas import ImportResult, RowError
from mailing.csv_writer import csv_of
from mailing.database.engine import Sessions, transaction
from mailing.database.error_messages import cause_of, may_be_committed
from mailing.database.errors import DATABASE_ERRORS
from mailing.errors import Unavailable
from mailing.events import record_event

SPOOL_IN_MEMORY = 1024 * 1024  # bytes; what is longer goes to the directory for temporary files
EXPORT_PAGE = 1000  # clients; 5 ms of the event loop
PAUSES_S = (0.5, 1.0, 2.0, 4.0, 8.0)


async def import_clients(session: AsyncSession, chunks: AsyncIterator[bytes], *, by: str) -> ImportResult:
    """Raises Invalid when the header is wrong; a bad row is only counted. The session must be fresh: see above.

    Raises Unavailable where the database breaks it off, with the reason.
    """
    with spooled() as spool:
        reading = CsvReader()
        accepted = await validate(chunks, reading, into=spool)
        with storing():
            imported = await save(session, spool, reading, accepted=accepted, by=by)
    errors = [RowError(line, field, message) for line, field, message, _ in imported.refusals]
    return ImportResult(**imported.counts, errors=errors)


NOTHING_STORED = "Nothing was stored; import the file again."
# What is stored stays as it is: a client is known by its phone.
MAY_BE_STORED = "It may have been stored all the same; importing the file again is safe, and says how many are new."


@contextmanager
def storing() -> Iterator[None]:
    """What the database breaks off in the block raises Unavailable, with the cause."""
    try:
        yield
    except Exception as error:
        if cause := cause_of(error):
            raise Unavailable(_broke_off(cause, NOTHING_STORED)) from error
        raise


@contextmanager
def committing() -> Iterator[None]:
    """The same around a transaction of `import_clients`: what has not got its sentence there is from the COMMIT."""
    try:
        yield
    except Exception as error:
        if cause := cause_of(error):
            raise Unavailable(
                _broke_off(cause, MAY_BE_STORED if may_be_committed(error) else NOTHING_STORED)
            ) from error
        raise


def _broke_off(cause: str, then: str) -> str:
    return f"The import broke off: {cause}. {then}"


def spooled() -> SpooledTemporaryFile[bytes]:
    return SpooledTemporaryFile(max_size=SPOOL_IN_MEMORY)


async def validate(chunks: AsyncIterator[bytes], reading: CsvReader, *, into: IO[bytes]) -> int:
    """How many rows are right: they stand in `into`, ready for `import_staged`. Raises Invalid, as above."""
    judging = Judging(reading, into)
    async for piece in _pieces(chunks):
        await beside_the_loop(partial(judging.feed, piece))
    await beside_the_loop(judging.finish)
    return judging.accepted


class Imported(Struct):
    """`counts`: created, updated, rejected. `refusals`: the first ones, those of erased persons with them."""

    counts: dict[str, int]
    refusals: list[RejectedField]


async def save(session: AsyncSession, rows: IO[bytes], reading: CsvReader, *, accepted: int, by: str) -> Imported:
    """What `judge` found right, with the numbers of the whole file."""
    stored = Stored(0, [])
    if accepted:
        stored = await import_staged(session, rows, columns=reading.columns, by=by)
    counts = {
        "created": stored.created,
        "updated": accepted - stored.created - len(stored.erased),
        "rejected": reading.rejected + len(stored.erased),
    }
    if accepted:
        await record_event(session, "clients.imported", by=by, **counts)
    return Imported(counts, _listed(reading, stored.erased))


def _listed(reading: CsvReader, erased: Sequence[int]) -> list[RejectedField]:
    """The first ones of both kinds, in the order of lines."""
    refused = [RejectedField(line, "phone", ERASED, row="") for line in erased]
    return sorted([*reading.refusals, *refused], key=lambda refusal: refusal.line)[: reading.listed]


async def _pieces(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """All of one size, so that memory stays flat and a file that comes byte by byte costs no more."""
    held = bytearray()
    async for chunk in chunks:
        held += chunk
        while len(held) >= PIECE:
            yield bytes(held[:PIECE])
            del held[:PIECE]
    if held:
        yield bytes(held)


async def export_clients(sessions: Sessions) -> AsyncIterator[bytes]:
    """In the order of ids. What a spreadsheet would calculate gets an apostrophe, which the import takes away."""
    text = ",".join(COLUMNS) + "\r\n"
    after = 0
    while True:
        clients = await _page(sessions, after=after)
        yield (text + csv_of(client[1:] for client in clients)).encode()
        if len(clients) < EXPORT_PAGE:
            return
        text, after = "", clients[-1][0]


async def _page(sessions: Sessions, *, after: int) -> Sequence[ExportedClient]:
    """An export that has begun outlives a database that is away for a few seconds; the first page is asked for once."""
    for pause_s in PAUSES_S if after else ():
        try:
            return await _read(sessions, after=after)
        except DATABASE_ERRORS:
            await asyncio.sleep(pause_s)
    return await _read(sessions, after=after)


async def _read(sessions: Sessions, *, after: int) -> Sequence[ExportedClient]:
    async with transaction(sessions) as session:
        return await export_page(session, after=after, limit=EXPORT_PAGE)
