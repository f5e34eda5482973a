"""Uploads that break off and a database that fails: nothing is stored, and the answer says to try again."""

from typing import Any

import pytest
from sqlalchemy import text

from mailing.database.engine import transaction
from mailing.settings import Settings
from support.api import Api, bound_app
from support.database import Database
from support.uploads import counted

pytestmark = pytest.mark.slow

CLIENT = {"phone": "79161234567", "timezone": "UTC"}
FILE = "phone,timezone\n79161234567,UTC\n"


async def fail_after_insert(db: Database, body: str, *, at_commit: bool = False) -> None:
    """From now on the server does this when a client was inserted, which stands for any moment it may happen."""
    kind, when = ("CONSTRAINT TRIGGER", "DEFERRABLE INITIALLY DEFERRED FOR EACH ROW") if at_commit else ("TRIGGER", "")
    function = f"CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body}; RETURN NULL; END $$"
    async with transaction(db.sessions) as session:
        await session.execute(text(function))
        await session.execute(text(f"CREATE {kind} fail AFTER INSERT ON client {when} EXECUTE FUNCTION fail()"))


@pytest.mark.parametrize(
    "failure",
    [
        "PERFORM pg_terminate_backend(pg_backend_pid())",
        "RAISE EXCEPTION 'deadlock' USING ERRCODE = 'deadlock_detected'",
        "RAISE EXCEPTION 'full' USING ERRCODE = 'disk_full'",
        "RAISE EXCEPTION 'read-only' USING ERRCODE = 'read_only_sql_transaction'",
    ],
)
async def test_a_database_that_fails_for_now_is_unavailable(api: Api, db: Database, failure: str) -> None:
    await fail_after_insert(db, failure)
    for answer in (await api.post("/clients", json=CLIENT), await api.post("/clients/import", content=FILE)):
        assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
        assert answer.headers["retry-after"] == "5"
    assert await counted(db, "client") == 0


async def test_a_commit_that_fails_is_not_answered_with_success(api: Api, db: Database) -> None:
    failure = "RAISE EXCEPTION 'conflict' USING ERRCODE = 'serialization_failure'"
    await fail_after_insert(db, failure, at_commit=True)
    for answer in (await api.post("/clients", json=CLIENT), await api.post("/clients/import", content=FILE)):
        assert answer.status_code == 503
    assert await counted(db, "client") == 0


async def test_an_upload_that_breaks_off_stores_nothing(settings: Settings, db: Database) -> None:
    file = ("phone,operator_code,tag,timezone\n" + "".join(f"7916{n:07d},,,UTC\n" for n in range(5000))).encode()
    events = iter([{"type": "http.request", "body": file, "more_body": True}, {"type": "http.disconnect"}])
    answers: list[Any] = []

    async def receive() -> Any:  # noqa: ANN401 - an ASGI event
        return next(events)

    async def send(event: Any) -> None:  # noqa: ANN401 - an ASGI event
        answers.append(event)

    path = "/mailing/api/clients/import"
    scope: Any = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "client": ("127.0.0.1", 1),
        "server": ("test", 80),
        "headers": [(b"host", b"test"), (b"authorization", f"Bearer {settings.api_key}".encode())],
    }
    with bound_app(settings) as app:
        app.state.sessions = db.sessions
        await app(scope, receive, send)
    assert answers[0]["status"] >= 400
    assert await counted(db, "client") == 0
