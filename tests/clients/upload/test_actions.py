import asyncio

import pytest

from mailing.clients.upload import actions, job, repository
from mailing.clients.upload.preview import MAX_ROWS, Preview
from mailing.clients.upload.schemas import UploadStatus
from mailing.database.engine import transaction
from mailing.errors import Conflict, Invalid, NotFound, TooMany
from support.database import Database
from support.query_plans import executed
from support.uploads import HEADER, confirmed, counted, file_of, kept, upload_of


async def previewed(db: Database, file: bytes) -> Preview:
    upload_id = await kept(db, file)
    async with transaction(db.sessions) as session:
        return await actions.preview_of(session, await repository.get_upload(session, upload_id))


async def test_a_file_is_kept_whole_and_in_pieces(db: Database) -> None:
    file = file_of(20_000)
    upload_id = await kept(db, file)
    async with transaction(db.sessions) as session:
        pieces = [await repository.read_chunk(session, upload_id, number=number) for number in range(10)]
    assert b"".join(pieces) == file
    assert max(len(piece) for piece in pieces) == actions.CHUNK_BYTES
    upload = await upload_of(db, upload_id)
    assert (upload.status, upload.size, upload.actor) == (UploadStatus.uploaded, len(file), "user 1 (anna)")


async def test_of_a_path_only_the_files_name_is_kept(db: Database) -> None:
    upload_id = await kept(db, file_of(1), name="C:\\Users\\anna\\June\x00\n.csv")
    assert (await upload_of(db, upload_id)).name == "June.csv"


async def test_a_file_that_cannot_be_read_is_refused_and_not_kept(db: Database) -> None:
    with pytest.raises(Invalid, match="column timezone is missing"):
        await kept(db, b"name,phone\nx,y\n")
    assert await counted(db, "upload") == 0


async def test_a_file_is_parsed_before_the_first_statement(db: Database) -> None:
    """The database ends a transaction that stands idle while a file of odd quotes is parsed."""
    with executed(db.engine.sync_engine) as ran:
        with pytest.raises(Invalid):
            await kept(db, b"name,phone\n" + b'"\n' * 1000)
        assert ran == []
        await kept(db, file_of(1))
        assert ran


async def test_a_user_has_so_many_files_waiting_and_others_are_not_in_the_way(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actions, "MAX_USER_FILES", 2)
    first = await kept(db, file_of(1))
    await confirmed(db, file_of(1))
    with pytest.raises(TooMany, match="2 files or 500 MB of yours may wait at once; import or discard one first"):
        await kept(db, file_of(1))
    await kept(db, file_of(1), by="user 2 (boris)")
    await db.commit(actions.discard, first)
    await kept(db, file_of(1))


async def test_a_user_s_files_have_a_size_together(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actions, "MAX_USER_BYTES", 2 * len(file_of(10)))
    await kept(db, file_of(10))
    with pytest.raises(TooMany):
        await kept(db, file_of(11))
    await kept(db, file_of(10))


@pytest.mark.parametrize("limit", [("MAX_FILES", 2), ("MAX_BYTES", 2 * len(file_of(1)))])
async def test_all_users_together_have_a_limit(
    db: Database, monkeypatch: pytest.MonkeyPatch, limit: tuple[str, int]
) -> None:
    monkeypatch.setattr(actions, *limit)
    for name in ("anna", "boris"):
        await kept(db, file_of(1), by=name)
    with pytest.raises(TooMany, match="those of others too"):
        await kept(db, file_of(1), by="clara")


async def test_what_was_imported_or_failed_makes_room(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actions, "MAX_USER_FILES", 1)
    for file in (file_of(1), b"\n" * 300_000 + b"name\n", file_of(1)):
        await job.import_upload(db.sessions, asyncio.Event(), await confirmed(db, file))


async def test_the_preview_shows_the_first_rows_and_their_rejected_fields(db: Database) -> None:
    file = HEADER + "79160000000,,vip,UTC\n8,,,Mars\n\n79160000001,925,,UTC\nx\n"
    preview = await previewed(db, file.encode())
    assert preview.complete
    rows = [(row.line, row.client is not None) for row in preview.rows]
    assert rows == [(2, True), (3, False), (5, True), (6, False)]
    assert [refusal.field for refusal in preview.rows[1].rejected_fields] == ["phone", "timezone"]
    assert preview.rows[3].rejected_fields[0].row == "x"


async def test_the_preview_knows_whose_phone_is_known(db: Database) -> None:
    await db.add_client(phone="79160000001")
    preview = await previewed(db, file_of(2))
    assert [row.known for row in preview.rows] == [False, True]


async def test_the_preview_of_a_long_file_is_its_beginning(db: Database) -> None:
    preview = await previewed(db, file_of(20_000))
    assert (len(preview.rows), preview.complete) == (MAX_ROWS, False)


async def test_confirming_twice_is_confirming_once(db: Database) -> None:
    upload_id = await confirmed(db, file_of(1))
    await db.commit(actions.confirm, upload_id, by="user 2 (boris)")
    assert await counted(db, "procrastinate_jobs") == 1
    assert await counted(db, "event") == 1


async def test_a_discarded_file_is_gone_with_its_rows_and_a_confirmed_one_stays(db: Database) -> None:
    upload_id = await kept(db, file_of(1))
    await db.commit(actions.discard, upload_id)
    assert await counted(db, "upload_chunk") == 0
    with pytest.raises(NotFound):
        await upload_of(db, upload_id)
    upload_id = await confirmed(db, file_of(1))
    async with transaction(db.sessions) as session:
        with pytest.raises(Conflict):
            await actions.discard(session, upload_id)
