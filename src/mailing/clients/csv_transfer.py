"""Import and export clients as CSV: `phone,operator_code,tag,timezone,opted_out`, in memory that stays flat.

Import: the whole upload is read and validated first, into a temporary file; only then does a transaction begin. A slow
upload holds no connection, and one that breaks off stores nothing. The rows are stored as if one after another: of
rows with the same phone the last one counts. Columns that the file does not have change nothing, and no file opts a
client in.

Export: the same columns, so the file can be imported again. Each page is a short transaction of its own, because a slow
reader must not hold one open. A client that changes meanwhile is exported as it was or as it is, and never twice.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from tempfile import SpooledTemporaryFile
from typing import IO

from msgspec.structs import asdict
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.clients.csv_header import COLUMNS
from mailing.clients.csv_reader import CsvReader, RejectedField
from mailing.clients.csv_validation import CHUNK_BYTES, RowValidator, run_in_thread
from mailing.clients.import_repository import StoredRows, import_staged
from mailing.clients.schemas import ClientOut, ImportCounts, ImportResult, RowError
from mailing.clients.search import clients_after
from mailing.csv_writer import BYTE_ORDER_MARK, csv_of
from mailing.database.engine import Sessions, in_transaction
from mailing.database.error_messages import cause_of
from mailing.database.errors import DATABASE_ERRORS
from mailing.errors import Unavailable
from mailing.events import record_event
from mailing.reasons.refusals import Refusal, RefusalCode

MAX_IN_MEMORY = 1024 * 1024  # bytes; longer files go to the directory for temporary files
EXPORT_PAGE_SIZE = 1000  # clients; 5 ms of the event loop
RETRY_PAUSES_S = (0.5, 1.0, 2.0, 4.0, 8.0)


async def import_clients(session: AsyncSession, chunks: AsyncIterator[bytes], *, by: str) -> ImportResult:
    """Import a file in one transaction, which begins after validation: pass a session that has not been used.

    A bad row is counted. Raises Invalid if the header is wrong, and Unavailable with the cause if the database fails.
    """
    with temporary_file() as spool:
        reader = CsvReader()
        accepted = await validate(chunks, reader, into=spool)
        with explain_failure():
            imported = await save(session, spool, reader, accepted=accepted, by=by)
    counts = asdict(imported)
    rejected = counts.pop("rejected_fields")
    return ImportResult(**counts, errors=[RowError(each.line, each.field, each.refusal.words()) for each in rejected])


NOTHING_STORED = "Nothing was stored; import the file again."
# A second import changes nothing: a client is identified by its phone.
MAY_BE_STORED = "It may have been stored. Importing the file again is safe, and says how many clients are new."


@contextmanager
def explain_failure(*, may_be_stored: Callable[[BaseException], bool] = lambda _: False) -> Iterator[None]:
    """Raise Unavailable with the cause if the database fails within the block."""
    try:
        yield
    except Exception as error:
        if cause := cause_of(error):
            then = MAY_BE_STORED if may_be_stored(error) else NOTHING_STORED
            raise Unavailable(f"The import broke off: {Refusal(cause).words()}. {then}") from error
        raise


def temporary_file() -> SpooledTemporaryFile[bytes]:
    return SpooledTemporaryFile(max_size=MAX_IN_MEMORY)


async def validate(chunks: AsyncIterator[bytes], reader: CsvReader, *, into: IO[bytes]) -> int:
    """Write the valid rows into `into`, ready for `import_staged`, and return their number. May raise Invalid."""
    validator = RowValidator(reader, into)
    async for chunk in _rechunk(chunks):
        await run_in_thread(partial(validator.feed, chunk))
    await run_in_thread(validator.finish)
    return validator.accepted


class ImportOutcome(ImportCounts):
    """The numbers, and the first rejected fields, those of erased persons included."""

    rejected_fields: list[RejectedField]


async def save(session: AsyncSession, rows: IO[bytes], reader: CsvReader, *, accepted: int, by: str) -> ImportOutcome:
    """Store the rows that `validate` accepted, and return the numbers of the whole file."""
    stored = StoredRows()
    if accepted:
        stored = await import_staged(session, rows, columns=reader.columns, zoneless=reader.zoneless, by=by)
    left_out = len(stored.erased) + len(stored.zoneless)
    counts = {
        "created": stored.created,
        "updated": accepted - stored.created - left_out,
        "normalised": reader.normalised,
        "opted_out": stored.opted_out,
        "rejected": reader.rejected + left_out,
    }
    if accepted:
        await record_event(session, "clients.imported", by=by, **counts)
    return ImportOutcome(**counts, rejected_fields=_listed(reader, stored))


def _listed(reader: CsvReader, stored: StoredRows) -> list[RejectedField]:
    """Return the first rejected fields of all kinds, by line."""
    fields = [RejectedField(line, "phone", Refusal(RefusalCode.phone_erased), row="") for line in stored.erased]
    fields += [
        RejectedField(line, "timezone", Refusal(RefusalCode.timezone_missing), row="") for line in stored.zoneless
    ]
    return sorted([*reader.rejected_fields, *fields], key=lambda each: each.line)[: reader.listed]


async def _rechunk(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield chunks of one size: memory stays flat, and a file that arrives byte by byte costs no more."""
    held = bytearray()
    async for chunk in chunks:
        held += chunk
        while len(held) >= CHUNK_BYTES:
            yield bytes(held[:CHUNK_BYTES])
            del held[:CHUNK_BYTES]
    if held:
        yield bytes(held)


async def export_clients(sessions: Sessions) -> AsyncIterator[bytes]:
    """Export all clients by id. Formulas are escaped for spreadsheets; the import removes the escape."""
    text = BYTE_ORDER_MARK + ",".join(COLUMNS) + "\r\n"
    after = 0
    while True:
        clients = await _page(sessions, after=after)
        yield (text + csv_of(_row(each) for each in clients)).encode()
        if len(clients) < EXPORT_PAGE_SIZE:
            return
        text, after = "", clients[-1].id


def _row(client: ClientOut) -> tuple[str, str, str | None, str, str]:
    """Return the cells. No spreadsheet translates `yes`, as it does `true`."""
    opted_out = "yes" if client.opted_out else "no"
    return client.phone, client.operator_code, client.tag, client.timezone, opted_out


async def _page(sessions: Sessions, *, after: int) -> Sequence[ClientOut]:
    """Read a page. A running export survives a database that is away for some seconds; the first page is read once."""
    read = partial(in_transaction, sessions, clients_after, after, count=EXPORT_PAGE_SIZE)
    for pause_s in RETRY_PAUSES_S if after else ():
        try:
            return await read()
        except DATABASE_ERRORS:
            await asyncio.sleep(pause_s)
    return await read()
