import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import httpx
import pytest
from sqlalchemy.engine import make_url

from mailing.database.migrations import migrate
from mailing.settings import Settings
from support.api import bound_app
from support.asgi import client_of
from support.database import Database
from support.proxy import proxy


@asynccontextmanager
async def client(database_url: str) -> AsyncIterator[httpx.AsyncClient]:
    """Carries no key."""
    with bound_app(Settings(database_url=database_url)) as app:
        async with app.lifespan(), client_of(app, "http://test/health") as http:
            yield http


def failed(answer: httpx.Response) -> str:
    assert answer.status_code == 503
    body: dict[str, Any] = answer.json()
    assert body["status"] == "unavailable"
    assert body["detail"]
    assert body["remedy"]
    return str(body["check"])


async def test_a_process_whose_database_does_not_answer_is_alive_and_not_ready() -> None:
    async with client("postgresql://nobody:a-secret@127.0.0.1:1/none") as http:
        alive, ready = await http.get("/live"), await http.get("/ready")
    assert (alive.status_code, alive.json()) == (200, {"status": "ok"})
    assert alive.headers["cache-control"] == "no-store"
    assert failed(ready) == "database"
    assert "a-secret" not in ready.text


@pytest.mark.parametrize("path", ["/ready", "/ready/"])
async def test_it_is_ready_when_the_database_answers_and_the_schema_is_current(database_url: str, path: str) -> None:
    async with client(database_url) as http:
        answer = await http.get(path)
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
    assert answer.headers["cache-control"] == "no-store"


async def test_it_is_not_ready_on_another_schema_and_says_how_to_mend_it(database_url: str, db: Database) -> None:
    await migrate(db.engine, "base")
    async with client(database_url) as http:
        answer = await http.get("/ready")
        assert failed(answer) == "schema"
        assert "mailing migrate" in answer.json()["remedy"]
        assert answer.headers["cache-control"] == "no-store"
        await migrate(db.engine)
        assert (await http.get("/ready")).status_code == 200


async def test_it_is_not_ready_where_no_job_can_be_enqueued(database_url: str, db: Database) -> None:
    await db.run("ALTER TABLE procrastinate_jobs RENAME TO elsewhere")
    async with client(database_url) as http:
        assert failed(await http.get("/ready")) == "queue"
        await db.run("ALTER TABLE elsewhere RENAME TO procrastinate_jobs")
        assert (await http.get("/ready")).status_code == 200


@pytest.mark.parametrize("name", ["no_such_database", "пример"])
async def test_it_is_not_ready_without_its_database_and_names_no_database(database_url: str, name: str) -> None:
    other = make_url(database_url).set(database=name).render_as_string(hide_password=False)
    async with client(other) as http:
        answer = await http.get("/ready")
    assert failed(answer) == "database"
    assert "InvalidCatalogNameError" in answer.json()["detail"]
    assert name not in answer.text


async def test_a_database_that_keeps_it_waiting_is_not_ready_after_two_seconds(database_url: str) -> None:
    locker = await asyncpg.connect(database_url)
    async with client(database_url) as http, locker.transaction():
        await locker.execute("LOCK TABLE alembic_version IN ACCESS EXCLUSIVE MODE")
        began = time.monotonic()
        assert failed(await http.get("/ready")) == "database"
        assert 1.9 < time.monotonic() - began < 10
    await locker.close()


async def test_a_dead_connection_takes_no_longer_and_the_next_one_is_ready_again(settings: Settings) -> None:
    async with proxy(settings) as (between, through), client(str(through.database_url)) as http:
        assert (await http.get("/ready")).status_code == 200
        between.freeze()
        began = time.monotonic()
        assert failed(await http.get("/ready")) == "database"
        assert time.monotonic() - began < 10
        between.thaw()
        assert (await http.get("/ready")).status_code == 200
