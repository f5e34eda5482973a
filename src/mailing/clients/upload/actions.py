"""Save an upload, preview it, confirm its import or discard it."""

from collections.abc import Awaitable, Callable
from functools import partial

from sqlalchemy.ext.asyncio import AsyncSession

from mailing.clients.csv_validation import run_in_thread
from mailing.clients.import_repository import known_phones
from mailing.clients.upload import repository
from mailing.clients.upload.preview import Preview, preview
from mailing.clients.upload.schemas import Upload
from mailing.errors import Conflict, Invalid, TooMany
from mailing.events import record_event
from mailing.job_queue.enqueue import defer
from mailing.reasons.refusals import Refusal, RefusalCode, RefusedField, refused_field

CHUNK_BYTES = 256 * 1024  # bytes
MAX_FILE_BYTES = 200_000_000  # bytes, about five million rows
MAX_NAME_LENGTH = 200
MAX_USER_FILES, MAX_USER_BYTES = 5, 500_000_000  # of one user, not imported yet
MAX_FILES, MAX_BYTES = 50, 2_000_000_000
RETRY_AFTER_S = 60


class TooManyFiles(TooMany):
    def __init__(self, code: RefusalCode, *, files: int, size: int) -> None:
        self.refusal = Refusal(code, {"files": files, "size": size})
        super().__init__(self.refusal.words(), wait_s=RETRY_AFTER_S)


def too_large() -> RefusedField:
    return refused_field("file", RefusalCode.large_file, size=MAX_FILE_BYTES // 10**6)


ReadChunk = Callable[[int], Awaitable[bytes]]  # the next bytes of a file, at most that many; none at its end


async def ensure_importable(read: ReadChunk, *, size: int) -> None:
    """Raise Invalid for a file without importable rows.

    This comes before the transaction of `save_upload`, because the database ends an idle transaction.
    """
    if size > MAX_FILE_BYTES:
        raise Invalid(too_large())
    beginning = await read(CHUNK_BYTES)
    await run_in_thread(partial(preview, beginning, complete=len(beginning) == size))


async def save_upload(session: AsyncSession, read: ReadChunk, *, name: str, size: int, by: str) -> int:
    """Save a file and return the upload's id. Raises TooManyFiles as `ensure_capacity`; nothing is saved then."""
    await ensure_capacity(session, by=by, size=size)
    upload_id = await repository.add_upload(session, name=_base_name(name), actor=by, size=size)
    number = 0
    while chunk := await read(CHUNK_BYTES):
        await repository.add_chunk(session, upload_id, number=number, data=chunk)
        number += 1
    return upload_id


async def ensure_capacity(session: AsyncSession, *, by: str, size: int = 0) -> None:
    """Raise TooManyFiles if too many files, or too many bytes, are waiting. Files sent at the same moment all pass."""
    waiting = await repository.pending_files(session, by)
    if waiting.own >= MAX_USER_FILES or waiting.own_bytes + size > MAX_USER_BYTES:
        raise TooManyFiles(RefusalCode.own_files, files=MAX_USER_FILES, size=MAX_USER_BYTES // 10**6)
    if waiting.all >= MAX_FILES or waiting.all_bytes + size > MAX_BYTES:
        raise TooManyFiles(RefusalCode.all_files, files=MAX_FILES, size=MAX_BYTES // 10**6)


def _base_name(name: str) -> str:
    """Return the file's name without its path, which some browsers send."""
    own = name.replace("\\", "/").rpartition("/")[2]
    return "".join(sign for sign in own if sign.isprintable())[:MAX_NAME_LENGTH] or "clients.csv"


async def preview_of(session: AsyncSession, upload: Upload) -> Preview:
    beginning = await repository.read_chunk(session, upload.id, number=0)
    found = await run_in_thread(partial(preview, beginning, complete=len(beginning) == upload.size))
    phones = [row.client.phone for row in found.rows if row.client]
    known = await known_phones(session, phones)
    for row in found.rows:
        row.known = row.client is not None and row.client.phone in known
    return found


async def confirm(session: AsyncSession, upload_id: int, *, by: str) -> None:
    """Have a worker import the file at once. Confirming twice changes nothing."""
    await repository.get_upload(session, upload_id)
    if await repository.confirm(session, upload_id):
        await defer(session, "import_upload", upload_id=upload_id)
        await record_event(session, "upload.confirmed", by=by, upload_id=upload_id)


async def discard(session: AsyncSession, upload_id: int) -> None:
    """Discard an upload. Raises Conflict once it is confirmed: its rows may be stored already."""
    await repository.get_upload(session, upload_id)
    if not await repository.discard(session, upload_id):
        raise Conflict("This file is being imported, or was imported; it can't be discarded.")
