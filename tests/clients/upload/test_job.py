import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from sqlalchemy import text

from mailing.clients.upload import actions, job, repository
from mailing.clients.upload.rejected_rows import rejected_rows_csv
from mailing.clients.upload.schemas import UploadStatus
from mailing.database.engine import transaction
from mailing.reasons.refusals import Refusal, RefusalCode
from support.database import Database
from support.uploads import HEADER, confirmed, counted, file_of, kept, refused, upload_of

ROWS = 12_500  # of a long file
RUNNING = asyncio.Event()  # nobody asks the worker to stop


async def imported(db: Database, file: bytes) -> int:
    upload_id = await confirmed(db, file)
    await job.import_upload(db.sessions, RUNNING, upload_id)
    return upload_id


async def tended(db: Database) -> int:
    """Maintain uploads and count the waiting jobs."""
    await job.maintain_uploads(db.sessions)
    return await counted(db, "procrastinate_jobs")


async def test_good_rows_are_stored_and_bad_ones_kept_with_the_reason(db: Database) -> None:
    upload_id = await imported(db, file_of(1000, bad=2))
    upload = await upload_of(db, upload_id)
    assert (upload.status, upload.created, upload.updated, upload.rejected) == (UploadStatus.done, 1000, 0, 2)
    assert upload.bytes_read == upload.size
    assert (await counted(db, "client"), await counted(db, "upload_chunk")) == (1000, 0)
    assert [(each.line, each.field, each.row) for each in await refused(db, upload_id)] == [
        (line, field, "8916,,vip,Mars") for line in (1002, 1003) for field in ("phone", "timezone")
    ]


async def test_only_so_many_bad_fields_are_kept_but_all_bad_rows_counted(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "MAX_REJECTED_FIELDS", 3)
    upload_id = await imported(db, file_of(1, bad=50))
    assert (await upload_of(db, upload_id)).rejected == 50
    assert len(await refused(db, upload_id)) == 3


async def test_the_rejected_rows_are_a_file_that_no_spreadsheet_calculates(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailing.clients.upload.rejected_rows.PAGE_SIZE", 2)
    file = HEADER.encode() + b"\t=1+1,,a;=2,UTC\n=1+1,,a,UTC\n79160000001,,,UTC\n\xff\x00,,,UTC\n79160000002,,,Omsk\n"
    upload_id = await imported(db, file)
    rejected = b"".join([chunk async for chunk in rejected_rows_csv(db.sessions, upload_id, language="en")]).decode()
    assert [line.split(",")[0] for line in rejected.splitlines()] == ["\ufeffline", "2", "3", "5", "6"]
    assert rejected.startswith("\ufeffline,field,message,row\r\n2,phone,")
    assert "\"\t'=1+1,,a;'=2,UTC\"\r\n" in rejected
    assert '"\'=1+1,,a,UTC"\r\n' in rejected
    assert "\ufffd\ufffd,,,UTC" in rejected
    assert "Asia/Omsk" in rejected


async def test_the_rows_of_an_erased_person_are_forgotten(db: Database) -> None:
    upload_id = await imported(db, HEADER.encode() + b"79160000001,,,Omsk\n79160000002,,,Omsk\n")
    await db.commit(repository.delete_rows_with_phone, "79160000001")
    assert [refusal.line for refusal in await refused(db, upload_id)] == [3]


async def test_who_imported_how_many_is_noted(db: Database) -> None:
    await imported(db, file_of(3, bad=1))
    events = "SELECT kind, actor, detail ->> 'created' FROM event WHERE client_id IS NULL ORDER BY id"
    assert await db.run(events) == [
        ("upload.confirmed", "user 1 (anna)", None),
        ("clients.imported", "user 1 (anna)", "3"),
    ]


async def test_what_nobody_confirmed_is_not_imported(db: Database) -> None:
    upload_id = await kept(db, file_of(1))
    await job.import_upload(db.sessions, RUNNING, upload_id)
    assert (await upload_of(db, upload_id)).status == UploadStatus.uploaded
    assert await counted(db, "client") == 0


async def test_a_file_whose_header_comes_too_late_fails_with_the_reason(db: Database) -> None:
    upload_id = await imported(db, b"\n" * 300_000 + b"name\n")
    upload = await upload_of(db, upload_id)
    assert upload.status == UploadStatus.failed
    assert Refusal(RefusalCode.missing_column, {"name": "phone"}) in upload.refusals
    assert await counted(db, "upload_chunk") == 0


@asynccontextmanager
async def importing(db: Database, upload_id: int) -> AsyncIterator[asyncio.Task[None]]:
    """Start a worker that has read a chunk, and will be killed or overtaken."""
    task = asyncio.create_task(job.import_upload(db.sessions, RUNNING, upload_id))
    while not task.done() and not (await upload_of(db, upload_id)).bytes_read:  # noqa: ASYNC110 - the row tells
        await asyncio.sleep(0)
    yield task
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def long_file(monkeypatch: pytest.MonkeyPatch) -> bytes:
    """Build ROWS valid rows in a hundred chunks, and three invalid ones."""
    monkeypatch.setattr(actions, "CHUNK_BYTES", 4 * 1024)
    return file_of(ROWS, bad=3)


async def test_a_killed_workers_import_is_taken_up_and_the_counts_are_right(db: Database, long_file: bytes) -> None:
    upload_id = await confirmed(db, long_file)
    await db.run("DELETE FROM procrastinate_jobs")
    async with importing(db, upload_id):
        pass
    assert (await upload_of(db, upload_id)).status == UploadStatus.importing
    assert await counted(db, "client") == 0
    assert await tended(db) == 0
    await db.run("UPDATE upload SET lease_until = now() - interval '1 s'")
    assert await tended(db) == 1
    await job.import_upload(db.sessions, RUNNING, upload_id)
    upload = await upload_of(db, upload_id)
    assert (upload.status, upload.created, upload.updated, upload.rejected) == (UploadStatus.done, ROWS, 0, 3)
    assert await counted(db, "client") == ROWS


async def test_a_worker_that_was_overtaken_stores_nothing(db: Database, long_file: bytes) -> None:
    upload_id = await confirmed(db, long_file)
    async with importing(db, upload_id) as frozen:
        async with transaction(db.sessions) as session:
            await session.execute(text("UPDATE upload SET lease_until = now() - interval '1 s'"))
            assert await repository.claim_import(session, upload_id)
        await frozen
    assert await counted(db, "client") == 0
    assert (await upload_of(db, upload_id)).status == UploadStatus.importing


async def test_a_worker_that_is_to_stop_gives_the_upload_back(db: Database, long_file: bytes) -> None:
    stopping = asyncio.Event()
    stopping.set()
    upload_id = await confirmed(db, long_file)
    await job.import_upload(db.sessions, stopping, upload_id)
    assert (await upload_of(db, upload_id)).status == UploadStatus.waiting
    await job.import_upload(db.sessions, RUNNING, upload_id)
    assert (await upload_of(db, upload_id)).created == ROWS


async def test_what_always_ends_its_worker_is_given_up(db: Database) -> None:
    upload_id = await confirmed(db, file_of(1))
    for _ in range(repository.MAX_ATTEMPTS):
        assert await db.commit(repository.claim_import, upload_id)
        await db.run("UPDATE upload SET lease_until = now() - interval '1 s'")
    await db.run("DELETE FROM procrastinate_jobs")
    assert await tended(db) == 0
    upload = await upload_of(db, upload_id)
    assert (upload.status, bool(upload.refusals)) == (UploadStatus.failed, True)
    assert await counted(db, "upload_chunk") == 0


async def test_files_nobody_confirmed_and_old_results_are_forgotten(db: Database) -> None:
    old = await imported(db, file_of(1, bad=1))
    await kept(db, file_of(1))
    fresh = await kept(db, file_of(1))
    await db.run("UPDATE upload SET created_at = now() - interval '25 h' WHERE id <> :fresh", fresh=fresh)
    await job.maintain_uploads(db.sessions)
    assert [each.id for each in await db.run("SELECT id FROM upload ORDER BY id")] == [old, fresh]
    await db.run("UPDATE upload SET finished_at = now() - interval '8 d' WHERE id = :old", old=old)
    await job.maintain_uploads(db.sessions)
    assert await db.value("SELECT count(*) FROM upload_row_error") == 0
    assert await counted(db, "upload") == 1
