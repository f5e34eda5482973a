"""Uploads that break off and a database that fails: nothing is stored, and the answer says to try again."""

import tempfile
from io import FileIO

import pytest

from mailing.settings import Settings
from support.api import Api, running_app
from support.asgi import break_off
from support.database import CONFLICT, Database
from support.uploads import counted

pytestmark = pytest.mark.slow

CLIENT = {"phone": "79161234567", "timezone": "UTC"}
FILE = "phone,timezone\n79161234567,UTC\n"


@pytest.mark.parametrize(
    ("failure", "at_commit"),
    [
        ("PERFORM pg_terminate_backend(pg_backend_pid())", False),
        ("RAISE EXCEPTION 'deadlock' USING ERRCODE = 'deadlock_detected'", False),
        ("RAISE EXCEPTION 'full' USING ERRCODE = 'disk_full'", False),
        ("RAISE EXCEPTION 'read-only' USING ERRCODE = 'read_only_sql_transaction'", False),
        (CONFLICT, True),
    ],
)
async def test_a_database_that_fails_for_now_is_unavailable(
    api: Api, db: Database, failure: str, *, at_commit: bool
) -> None:
    await db.after_write("client", failure, at_commit=at_commit)
    for answer in (await api.post("/clients", json=CLIENT), await api.post("/clients/import", content=FILE)):
        assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
        assert answer.headers["retry-after"] == "5"
    assert await counted(db, "client") == 0


async def test_a_full_directory_for_temporary_files_is_not_blamed_on_the_database(
    api: Api, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: FileIO("/dev/full", "r+"))
    file = "phone,timezone\n" + "".join(f"7916{n:07d},Europe/Moscow\n" for n in range(60_000))
    for headers in ({}, {"Idempotency-Key": "a-long-import"}):
        answer = await api.post("/clients/import", content=file, headers=headers)
        assert answer.status_code == 503
        assert answer.json()["detail"] == "The server has no space left for temporary files. Nothing was changed."
    assert await counted(db, "client") == 0


@pytest.mark.parametrize("key", [{}, {"Idempotency-Key": "a-long-import"}], ids=["without a key", "with a key"])
async def test_an_upload_that_breaks_off_stores_nothing(settings: Settings, db: Database, key: dict[str, str]) -> None:
    file = ("phone,operator_code,tag,timezone\n" + "".join(f"7916{n:07d},,,UTC\n" for n in range(5000))).encode()
    async with running_app(settings) as app:
        headers = {"Authorization": f"Bearer {settings.api_key}"} | key
        assert await break_off(app, "/mailing/api/clients/import", file, headers) >= 400
    assert (await counted(db, "client"), await counted(db, "idempotency_key")) == (0, 0)
