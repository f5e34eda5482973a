"""Imports during which the database fails, in each phase: the answer says why, and what became of the rows."""

import asyncio
import io
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest

from mailing.cli.clients import import_file
from mailing.clients.schemas import ImportResult
from mailing.clients.upload import job, repository
from mailing.clients.upload.schemas import UploadStatus
from mailing.database import engine as engine_
from mailing.database.connections import fail_if_lost
from mailing.database.engine import Sessions, transaction
from mailing.database.errors import DATABASE_ERRORS
from mailing.errors import Unavailable
from mailing.reasons.refusals import Refusal, RefusalCode
from mailing.settings import Settings
from support.api import running_api
from support.database import Database, open_database
from support.loop_time import advance
from support.processes import until
from support.proxy import Proxy, proxy
from support.uploads import confirmed, file_of, upload_of

pytestmark = pytest.mark.slow

ROWS = 2000
FILE = file_of(ROWS)
COMMIT = b"COMMIT;"
# What the server hears last before it falls silent, or the connection is cut.
PHASES = [b"LOCK TABLE client", b"COPY", b"DELETE FROM staged", b"INSERT INTO client", b"INSERT INTO event"]
SILENT, LOST = Refusal(RefusalCode.silent), Refusal(RefusalCode.connection_lost)
NOTHING = "Nothing was stored; import the file again."
DOUBT = "It may have been stored. Importing the file again is safe, and says how many clients are new."
PATIENCE_S = 1000  # longer than any limit of an import


@dataclass
class Scene:
    """A database behind a proxy, and a file to import. `through` connects by the proxy, `db` does not."""

    between: Proxy
    settings: Settings
    through: Sessions
    db: Database
    file: Path
    monkeypatch: pytest.MonkeyPatch

    async def mended(self) -> None:
        """End the frozen connections; new connections pass."""
        await self.between.end_connections()
        self.between.forget()

    async def stored(self) -> int:
        return int(await self.db.value("SELECT count(*) FROM client"))

    async def imported_again(self) -> ImportResult:
        """Over a sound connection."""
        self.monkeypatch.undo()
        return await import_file(self.db.sessions, self.file, size=len(FILE))


@pytest.fixture
async def scene(
    settings: Settings, db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Scene]:
    file = tmp_path / "clients.csv"
    file.write_bytes(FILE)
    async with proxy(settings) as (between, through), open_database(str(through.database_url), pool_size=2) as weak:
        yield Scene(between, through, weak.sessions, db, file, monkeypatch)


def freeze(between: Proxy, word: bytes) -> None:
    between.freeze_after = word
    between.on_frozen = lambda: advance(PATIENCE_S)


def cut(between: Proxy, word: bytes) -> None:
    between.cut_after = (word,)


Break = Callable[[Proxy, bytes], None]
breaks = pytest.mark.parametrize(("break_", "cause"), [(freeze, SILENT), (cut, LOST)], ids=["silent", "cut"])
phases = pytest.mark.parametrize("word", [*PHASES, COMMIT], ids=lambda word: word.decode())


def told(cause: Refusal, word: bytes) -> str:
    return f"The import broke off: {cause.words()}. {DOUBT if word == COMMIT else NOTHING}"


@breaks
@phases
async def test_the_command_says_why_and_what_was_stored(
    scene: Scene, break_: Break, cause: Refusal, word: bytes
) -> None:
    async with transaction(scene.through) as session:
        await session.connection()
    break_(scene.between, word)
    with pytest.raises(Unavailable) as refused:
        await import_file(scene.through, scene.file, size=len(FILE))
    await scene.mended()
    assert str(refused.value) == told(cause, word)
    assert word == COMMIT or await scene.stored() == 0
    again = await scene.imported_again()
    assert (again.created + again.updated, await scene.stored()) == (ROWS, ROWS)


@breaks
@phases
async def test_the_api_answers_503_why_and_what_was_stored(
    scene: Scene, break_: Break, cause: Refusal, word: bytes
) -> None:
    async with running_api(scene.settings) as api:
        assert (await api.get("/clients/")).status_code == 200
        break_(scene.between, word)
        answer = await api.post("/clients/import", content=FILE, headers={"Content-Type": "text/csv"})
        await scene.mended()
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert answer.headers["content-type"] == "application/problem+json"
        if word == COMMIT:
            assert DOUBT in answer.json()["detail"]
        else:
            assert answer.json()["detail"] == told(cause, word)
            assert await scene.stored() == 0
    again = await scene.imported_again()
    assert (again.created + again.updated, await scene.stored()) == (ROWS, ROWS)


def cut_at_commit(between: Proxy, word: bytes) -> None:
    between.cut_after = (word, COMMIT)


@pytest.mark.parametrize(
    ("break_", "cause", "word"),
    [(freeze, SILENT, b"COPY"), (cut, LOST, b"INSERT INTO client"), (cut_at_commit, LOST, b"INSERT INTO event")],
    ids=["silent", "cut", "cut-at-commit"],
)
async def test_a_worker_notes_why_and_the_upload_is_imported_the_next_time(
    scene: Scene, break_: Break, cause: Refusal, word: bytes
) -> None:
    upload_id = await confirmed(scene.db, FILE)
    break_(scene.between, word)
    importing = asyncio.create_task(job.import_upload(scene.through, asyncio.Event(), upload_id))
    if break_ is freeze:
        await _thawed(scene, importing)
    await asyncio.wait({importing})
    upload = await upload_of(scene.db, upload_id)
    if upload.status != UploadStatus.done:  # a COMMIT whose answer was lost may have been done
        assert (upload.status, upload.broke_off) == (UploadStatus.importing, cause)
        assert await scene.stored() == 0
        await scene.db.run("UPDATE upload SET lease_until = now() - interval '1 s'")
        scene.monkeypatch.undo()
        await job.import_upload(scene.db.sessions, asyncio.Event(), upload_id)
        upload = await upload_of(scene.db, upload_id)
    assert (upload.status, upload.created, upload.broke_off) == (UploadStatus.done, ROWS, None)
    assert await scene.stored() == ROWS


async def _thawed(scene: Scene, importing: asyncio.Task[None]) -> None:
    """Once the worker has given the frozen connection up, and tried a new one, the next are good."""
    scene.monkeypatch.setattr(job, "RECORD_DELAYS_S", (0, 0.1, 5))
    await until(lambda: not scene.between.freeze_after or importing.done())
    await asyncio.wait({importing}, timeout=0.5)
    await scene.mended()


async def test_what_breaks_off_each_time_fails_with_the_cause_in_words(scene: Scene) -> None:
    upload_id = await confirmed(scene.db, FILE)
    await scene.db.run("UPDATE upload SET attempts = :attempts", attempts=repository.MAX_ATTEMPTS - 1)
    cut(scene.between, b"INSERT INTO client")
    await asyncio.wait({asyncio.create_task(job.import_upload(scene.through, asyncio.Event(), upload_id))})
    upload = await upload_of(scene.db, upload_id)
    again = Refusal(RefusalCode.failed_each_time, {"tries": 5})
    assert (upload.status, upload.refusals) == (UploadStatus.failed, [again, LOST])


async def test_whatever_the_driver_itself_raises_in_a_transaction_is_what_is_raised(scene: Scene) -> None:
    """Rolling back a connection that is gone fails, too; that is not what anybody wants to hear."""
    with pytest.raises(DATABASE_ERRORS) as raised:  # noqa: PT012 - the driver is handed out inside
        async with transaction(scene.db.sessions) as session:
            driver = await engine_.raw_connection(session)
            await driver.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    assert "rollback" not in str(raised.value)
    assert "terminating connection" in str(raised.value)
    with pytest.raises(ZeroDivisionError):  # noqa: PT012 - as above
        async with transaction(scene.db.sessions) as session:
            (await engine_.raw_connection(session)).terminate()
            raise ZeroDivisionError
    assert await scene.stored() == 0, "the pool is good"


async def test_a_connection_lost_while_the_server_takes_no_bytes_is_noticed_at_once(scene: Scene) -> None:
    """Asyncpg itself would wait for room to write until the statement's limit."""
    driver = await asyncpg.connect(str(scene.settings.database_url))
    await driver.execute("CREATE TEMPORARY TABLE long (line text)")
    scene.between.freeze_after = b"COPY"
    rows = io.BytesIO((b"x" * 99 + b"\n") * 400_000)
    copying = asyncio.create_task(fail_if_lost(driver, driver.copy_to_table("long", source=rows, timeout=900)))

    async def waits_for_room() -> bool:
        before = rows.tell()
        await asyncio.sleep(0.1)
        return not scene.between.freeze_after and rows.tell() == before

    await until(waits_for_room)
    assert not copying.done()
    await scene.between.reset()
    with pytest.raises((OSError, asyncpg.PostgresConnectionError)):
        await asyncio.wait_for(copying, 20)
