"""Import an upload in a worker: read and validated under a lease, stored in one transaction with its result.

A worker that dies has stored nothing, or all rows and their counts. The worker that takes the upload over starts from
the beginning; a worker that was frozen finds its attempt number outdated and stores nothing.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

from mailing.clients.csv_reader import CsvReader
from mailing.clients.csv_transfer import save, temporary_file, validate
from mailing.clients.upload import repository
from mailing.clients.upload.schemas import ImportLease
from mailing.database.engine import Sessions, in_transaction, transaction
from mailing.database.error_messages import cause_of
from mailing.database.errors import DATABASE_ERRORS
from mailing.errors import Invalid
from mailing.job_queue.enqueue import defer
from mailing.observability.log import get
from mailing.reasons.refusals import RefusedField

logger = get(__name__)

MAX_REJECTED_FIELDS = 10_000
RECORD_DELAYS_S = (0, 1, 5, 10, 10)  # within a lease


async def import_upload(sessions: Sessions, stopping: asyncio.Event, upload_id: int) -> None:
    lease = await in_transaction(sessions, repository.claim_import, upload_id)
    if lease is None:
        return
    try:
        await _import(sessions, lease, stopping)
    except Invalid as refused:
        async with transaction(sessions) as session:
            refusals = [error.refusal for error in refused.errors if isinstance(error, RefusedField)]
            await repository.fail_import(session, lease, refusals)
    except Exception as error:
        await _record_interruption(sessions, lease, error)
        raise


async def _record_interruption(sessions: Sessions, lease: ImportLease, error: Exception) -> None:
    """Record the cause of the failure, for the user, once the database accepts writes; the lease expires anyway.

    If the answer to a COMMIT was lost but it was done, the upload is `done`, and nothing is recorded.
    """
    cause = cause_of(error)
    if cause is None:
        return
    logger.warning("upload interrupted", upload_id=lease.upload_id, attempts=lease.number, cause=cause)
    for wait_s in RECORD_DELAYS_S:
        await asyncio.sleep(wait_s)
        with suppress(*DATABASE_ERRORS):
            await in_transaction(sessions, repository.record_interruption, lease, cause=cause)
            return


async def _import(sessions: Sessions, lease: ImportLease, stopping: asyncio.Event) -> None:
    with temporary_file() as spool:
        reader = CsvReader(listed=MAX_REJECTED_FIELDS)
        accepted = await validate(_chunks(sessions, lease, stopping), reader, into=spool)
        async with transaction(sessions) as session:
            actor = await repository.lock_import(session, lease)
            if actor is None:
                return
            imported = await save(session, spool, reader, accepted=accepted, by=actor)
            await repository.complete_import(session, lease, imported)
    counts = {"created": imported.created, "updated": imported.updated, "rejected": imported.rejected}
    logger.info("upload imported", upload_id=lease.upload_id, **counts)


async def _chunks(sessions: Sessions, lease: ImportLease, stopping: asyncio.Event) -> AsyncIterator[bytes]:
    """Read chunks, each in a short transaction. They end early once the lease is lost, which `lock_import` detects."""
    number = read = 0
    while chunk := await in_transaction(sessions, repository.next_chunk, lease, number=number, read=read):
        yield chunk
        number, read = number + 1, read + len(chunk)
        if stopping.is_set():
            await in_transaction(sessions, repository.release_import, lease)


async def maintain_uploads(sessions: Sessions) -> None:
    """Enqueue unfinished imports, and delete uploads and results whose retention has ended."""
    async with transaction(sessions) as session:
        await repository.fail_exhausted(session)
        await repository.delete_expired(session)
        for upload_id in await repository.unfinished_imports(session):
            await defer(session, "import_upload", upload_id=upload_id)
