"""The import of an upload, in a worker: read and judged under a lease, stored in one transaction with its result.

A worker that dies has stored nothing, or everything and the counts with it. Whoever takes the upload over begins at the
front; a worker that only froze finds its number outdated and stores nothing.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

from mailing.clients.csv_reader import CsvReader
from mailing.clients.csv_transfer import save, spooled, validate
from mailing.clients.upload import repository
from mailing.clients.upload.schemas import Try
from mailing.database.engine import Sessions, transaction
from mailing.database.error_messages import cause_of
from mailing.database.errors import TROUBLE
from mailing.errors import Invalid
from mailing.job_queue.enqueue import defer
from mailing.observability.log import get

logger = get(__name__)

REFUSALS_KEPT = 10_000  # bad fields
TELL_AFTER_S = (0, 1, 5, 10, 10)  # within a lease


async def import_upload(sessions: Sessions, stopping: asyncio.Event, upload_id: int) -> None:
    async with transaction(sessions) as session:
        mine = await repository.begin(session, upload_id)
    if mine is None:
        return
    try:
        await _import(sessions, mine, stopping)
    except Invalid as refused:
        async with transaction(sessions) as session:
            await repository.fail(session, mine, error="\n".join(error.message for error in refused.errors))
    except Exception as error:
        await _break_off(sessions, mine, error)
        raise


async def _break_off(sessions: Sessions, mine: Try, error: Exception) -> None:
    """Whoever looks at the upload learns why, once the database takes it; the lease runs out all the same.

    Where a COMMIT's answer was lost and it was done, the upload is `done`, not ours any more, and nothing happens here.
    """
    cause = cause_of(error)
    if cause is None:
        return
    logger.warning("upload broke off", upload_id=mine.upload_id, attempts=mine.number, cause=cause)
    for wait_s in TELL_AFTER_S:
        await asyncio.sleep(wait_s)
        with suppress(*TROUBLE):
            async with transaction(sessions) as session:
                await repository.break_off(session, mine, cause=cause)
            return


async def _import(sessions: Sessions, mine: Try, stopping: asyncio.Event) -> None:
    with spooled() as spool:
        reading = CsvReader(listed=REFUSALS_KEPT)
        accepted = await validate(_pieces(sessions, mine, stopping), reading, into=spool)
        async with transaction(sessions) as session:
            actor = await repository.hold(session, mine)
            if actor is None:
                return
            imported = await save(session, spool, reading, accepted=accepted, by=actor)
            await repository.finish(session, mine, imported.refusals, **imported.counts)
    logger.info("upload imported", upload_id=mine.upload_id, **imported.counts)


async def _pieces(sessions: Sessions, mine: Try, stopping: asyncio.Event) -> AsyncIterator[bytes]:
    """Each in a short transaction. They end early where the upload is not ours any more, which `hold` finds out."""
    number = read = 0
    while piece := await _next(sessions, mine, number=number, read=read):
        yield piece
        number, read = number + 1, read + len(piece)
        if stopping.is_set():
            async with transaction(sessions) as session:
                await repository.give_back(session, mine)


async def _next(sessions: Sessions, mine: Try, *, number: int, read: int) -> bytes:
    async with transaction(sessions) as session:
        return await repository.next_piece(session, mine, piece=number, read=read)


async def tend_uploads(sessions: Sessions) -> None:
    """Wakes what was left undone, whoever left it, and forgets what was kept long enough."""
    async with transaction(sessions) as session:
        await repository.give_up(session)
        await repository.forget_old(session)
        for upload_id in await repository.left_undone(session):
            await defer(session, "import_upload", upload_id=upload_id)
