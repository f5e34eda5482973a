import asyncio
import json
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import httpx
import pytest
from litestar.routes import HTTPRoute

from mailing.errors import TooMany
from mailing.settings import Settings
from mailing.web.concurrency_limits import CONCURRENCY_LIMIT, ConcurrencyLimit, ReleaseLimits
from support.api import KEY, bound_app, running_app
from support.asgi import client_of
from support.database import Database
from support.plain_http import NO_TLS

pytestmark = pytest.mark.slow

EXPORT = "/mailing/api/clients/export"
IMPORT = "/mailing/api/clients/import"
AUTH = {"Authorization": f"Bearer {KEY}"}
FILE = b"phone,timezone\n79161234567,UTC\n"
END_CONNECTIONS = """
    SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'mailing-api'"""


def limit(*, total: int = 3, each: int = 2, most_bytes: int = 100) -> ConcurrencyLimit:
    return ConcurrencyLimit("imports", total=total, each=each, max_bytes=most_bytes)


def test_every_route_with_a_limit_gives_it_back() -> None:
    with bound_app(Settings()) as app:
        routes = [route for route in app.routes if isinstance(route, HTTPRoute)]
    handlers = [handler for route in routes for handler, _ in route.route_handler_map.values()]
    limited = [handler for handler in handlers if CONCURRENCY_LIMIT in handler.opt]
    assert len(limited) == 5
    assert [handler for handler in handlers if ReleaseLimits in handler.resolve_middleware()] == limited


def test_a_caller_has_so_many_places_and_no_more() -> None:
    few = limit()
    release = few.acquire("a")
    few.acquire("a")
    with pytest.raises(TooMany, match="You have 2 imports in progress"):
        few.acquire("a")
    release()
    few.acquire("a")


def test_a_process_has_so_many_places_whoever_asks() -> None:
    few = limit()
    for caller in ("a", "a", "b"):
        few.acquire(caller)
    with pytest.raises(TooMany, match="Too many or too large imports are in progress"):
        few.acquire("c")


def test_bodies_take_so_many_bytes_together_and_a_long_one_alone_is_let_in() -> None:
    few = limit()
    release = few.acquire("a", 60)
    for size in (41, None):
        with pytest.raises(TooMany, match="Too many or too large imports are in progress"):
            few.acquire("b", size)
    few.acquire("b", 40)
    release()
    limit().acquire("a", 1000)


class Reader:
    """Somebody who asks, and reads the answer when it suits them."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def status(self) -> int:
        return int((await self.reader.readline()).split()[1])

    async def rest(self) -> bytes:
        return await self.reader.read()


@asynccontextmanager
async def asking(
    address: str, path: str, *, method: str = "GET", headers: Mapping[str, str] = AUTH
) -> AsyncIterator[Reader]:
    """With the least that a receiver may hold, so that whoever does not read stops the answer soon."""
    host, _, port = address.removeprefix("http://").partition(":")
    with socket.socket() as near:
        near.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        near.setblocking(False)
        await asyncio.get_running_loop().sock_connect(near, (host, int(port)))
        reader, writer = await asyncio.open_connection(sock=near, limit=4096)
        named = {"Host": host, "Connection": "close", **AUTH, **headers}
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in named.items()), "", ""]
        writer.write("\r\n".join(lines).encode())
        try:
            yield Reader(reader, writer)
        finally:
            writer.close()


def importing(address: str, *, size: int, **headers: str) -> AbstractAsyncContextManager[Reader]:
    """Wait for `100 Continue`: the server sends it when it begins to read the body."""
    named = {"Content-Length": str(size), "Expect": "100-continue", **headers}
    return asking(address, IMPORT, method="POST", headers=named)


async def add_clients(db: Database, count: int) -> None:
    await db.add_clients(count, tag="x" * 90, timezone="Europe/Moscow")


async def test_a_key_s_third_export_is_answered_429_before_the_head_and_the_first_two_are_finished(
    address: str, db: Database
) -> None:
    await add_clients(db, 30_000)
    async with (
        asking(address, EXPORT) as first,
        asking(address, EXPORT) as second,
        httpx.AsyncClient(verify=NO_TLS) as http,
    ):
        assert (await first.status(), await second.status()) == (200, 200)
        third = await http.get(f"{address}{EXPORT}", headers=AUTH)
        assert (third.status_code, third.headers["retry-after"]) == (429, "10")
        assert third.json()["detail"] == "You have 2 exports in progress. Try again when one has ended."
        assert (await http.get(f"{address}/mailing/api/clients/", headers=AUTH)).status_code == 200
        assert (await http.get(f"{address}/health/ready")).status_code == 200
        for answer in (await first.rest(), await second.rest()):
            assert answer.count(b"Europe/Moscow") == 30_000
            assert answer.endswith(b"0\r\n\r\n")
        await until_status(http, f"{address}{EXPORT}", 200)


async def until_status(http: httpx.AsyncClient, address: str, status: int) -> None:
    """Ask until the place is free: the server frees it once the request ended, and no client can wait for that."""
    for _ in range(200):
        async with http.stream("GET", address, headers=AUTH) as answer:
            if answer.status_code == status:
                return
        await asyncio.sleep(0.02)
    pytest.fail(f"never answered {status}")


async def test_whoever_leaves_an_export_gives_the_place_back(address: str, db: Database) -> None:
    await add_clients(db, 30_000)
    async with httpx.AsyncClient(verify=NO_TLS) as http:
        for _ in range(5):
            async with asking(address, EXPORT) as first, asking(address, EXPORT) as second:
                assert (await first.status(), await second.status()) == (200, 200)
            await until_status(http, f"{address}{EXPORT}", 200)


async def test_a_reader_who_is_too_slow_loses_the_place_and_sees_that_the_answer_is_no_whole_one(
    address: str, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailing.web.concurrency_limits.READER_GRACE_S", 0.2)
    monkeypatch.setattr("mailing.web.concurrency_limits.READER_RATE", 10**9)
    await add_clients(db, 30_000)
    async with (
        asking(address, EXPORT) as first,
        asking(address, EXPORT) as second,
        httpx.AsyncClient(verify=NO_TLS) as http,
    ):
        assert (await first.status(), await second.status()) == (200, 200)
        await until_status(http, f"{address}{EXPORT}", 200)
        answer = await first.rest()
        assert answer.count(b"Europe/Moscow") < 30_000
        assert not answer.endswith(b"0\r\n\r\n")


async def test_an_export_outlives_a_database_that_ends_its_connections(address: str, db: Database) -> None:
    await add_clients(db, 30_000)
    async with asking(address, EXPORT) as export:
        assert await export.status() == 200
        await db.run(END_CONNECTIONS)
        answer = await export.rest()
        assert answer.count(b"Europe/Moscow") == 30_000
        assert answer.endswith(b"0\r\n\r\n")


async def test_exports_use_no_connection_of_other_requests(settings: Settings, db: Database) -> None:
    await add_clients(db, 10)
    async with running_app(settings) as app, client_of(app, **AUTH) as http:
        held = [await app.state.engine.connect() for _ in range(10)]
        try:
            assert (await http.get(EXPORT)).text.count("Europe/Moscow") == 10
            assert (await http.get("/health/ready")).status_code == 200
        finally:
            for connection in held:
                await connection.close()


async def test_a_third_import_of_a_key_is_refused_before_its_body_is_read(address: str) -> None:
    """Also under an Idempotency-Key, whose body goes to a file before it is judged."""
    async with (
        importing(address, size=100) as first,
        importing(address, size=100, **{"Idempotency-Key": "k"}) as second,
        httpx.AsyncClient(verify=NO_TLS, headers=AUTH) as http,
    ):
        assert (await first.status(), await second.status()) == (100, 100)
        async with importing(address, size=100) as third:
            assert await third.status() == 429
            refusal = await third.rest()
        assert b"retry-after: 10" in refusal
        assert b"You have 2 imports in progress. Try again when one has ended." in refusal
        assert (await http.get(f"{address}/mailing/api/clients/")).status_code == 200
        for body in (first, second):
            body.writer.write(FILE.ljust(100, b"\n"))
        answers = [json.loads((await body.rest()).rpartition(b"\r\n\r\n")[2]) for body in (first, second)]
        assert sorted((answer["created"], answer["updated"]) for answer in answers) == [(0, 1), (1, 0)]
        assert (await http.post(f"{address}{IMPORT}", content=FILE)).status_code == 200


async def test_one_long_import_keeps_another_out_by_its_bytes(address: str) -> None:
    async with importing(address, size=190_000_000) as long, httpx.AsyncClient(verify=NO_TLS, headers=AUTH) as http:
        assert await long.status() == 100
        async with importing(address, size=90_000_000) as another:
            assert await another.status() == 429
            assert b"or too large imports" in await another.rest()
        assert (await http.post(f"{address}{IMPORT}", content=FILE)).status_code == 200
