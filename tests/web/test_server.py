"""Clients that send slowly or without end, at a real socket."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import cast

import pytest
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

from mailing.settings import Settings
from mailing.web.http_protocol import (
    MAX_HEADER_BYTES,
    MAX_HEADERS,
    MAX_PARTS,
    MAX_PIPELINED,
    MAX_URL_BYTES,
    BoundedProtocol,
)
from mailing.web.server import BodyTimeout, Server, server_config
from support.api import KEY, bound_app
from support.processes import until

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect = Callable[[], AbstractAsyncContextManager[Streams]]

POST = (
    "POST /mailing/api/mailings HTTP/1.1\r\nHost: localhost\r\n"
    f"Authorization: Bearer {KEY}\r\nContent-Length: 100\r\n\r\n"
).encode()
GET = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"
NEVER = b"GET /never HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNKED = b"POST /nowhere HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


class Hasty(BoundedProtocol):
    header_timeout_s = 0.3
    drain_timeout_s = 0.3
    linger_timeout_s = 1.0


@asynccontextmanager
async def serving(app: ASGIApp, path: Path, *, protocol: type[BoundedProtocol] = Hasty) -> AsyncIterator[Connect]:
    """On a socket in the file system: no port to look for."""
    server = Server(server_config(app, uds=str(path), http=protocol))
    task = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.01)

    @asynccontextmanager
    async def connect() -> AsyncIterator[Streams]:
        reader, writer = await asyncio.open_unix_connection(str(path))
        yield reader, writer
        writer.close()

    yield connect
    server.should_exit = True
    await task


@pytest.fixture
async def connect(settings: Settings, tmp_path: Path) -> AsyncIterator[Connect]:
    with bound_app(settings) as app:
        app.asgi_handler = cast("ASGIApp", BodyTimeout(app.asgi_handler, grace_s=0.3))
        async with serving(app, tmp_path / "api") as connect:
            yield connect


async def answers(connect: Connect, *parts: bytes) -> bytes:
    """Everything that comes back until the server ends the connection."""
    async with connect() as (reader, writer):
        for part in parts:
            writer.write(part)
            await writer.drain()
        return await reader.read()


async def test_a_connection_that_asks_nothing_is_ended(connect: Connect) -> None:
    assert (await answers(connect)).startswith(b"HTTP/1.1 408 ")


async def test_a_head_that_never_ends_is_refused_also_after_a_good_request(connect: Connect) -> None:
    assert (await answers(connect, b"GET / HTTP/1.1\r\nX-Slow")).startswith(b"HTTP/1.1 408 ")
    async with connect() as (reader, writer):
        writer.write(GET)
        assert b" 200 " in await reader.readuntil(b'{"status":"ok"}')
        writer.write(b"\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 408 ")


async def test_a_head_without_end_is_refused_before_it_fills_the_memory(connect: Connect) -> None:
    flood = b"GET / HTTP/1.1\r\nX-Long: " + b"x" * MAX_HEADER_BYTES
    assert (await answers(connect, flood)).startswith(b"HTTP/1.1 431 ")


async def test_a_body_that_does_not_come_is_answered_408_as_a_problem(connect: Connect) -> None:
    async with connect() as (reader, writer):
        writer.write(POST + b"{")
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 408 ")
        assert b"application/problem+json" in head


async def test_many_bytes_may_take_longer_than_few(connect: Connect) -> None:
    """10,000 bytes earn a second."""
    body = b'{"text": "' + b"x" * 20_000
    async with connect() as (reader, writer):
        writer.write(POST.replace(b"100", str(len(body) + 2).encode()) + body)
        await asyncio.sleep(0.6)
        writer.write(b'"}')
        assert b" 400 " in await reader.readline()


@pytest.mark.parametrize(
    ("flood", "status"),
    [
        (b"GET / HTTP/1.1\r\n" + b"a:\r\n" * (MAX_HEADERS + 2), 431),
        (b"GET / HTTP/1.1\r\nCookie: " + b"a=b;" * MAX_PARTS + b"\r\n\r\n", 431),
        (b"GET /" + b"x" * MAX_URL_BYTES + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET /?" + b"a=b&" * MAX_PARTS + b" HTTP/1.1\r\n\r\n", 414),
        (b"FOO / HTTP/1.1\r\n\r\n", 400),
        (b"nonsense\r\n\r\n", 400),
    ],
)
async def test_a_head_of_many_parts_is_refused_as_well(connect: Connect, flood: bytes, status: int) -> None:
    head, _, body = (await answers(connect, flood)).partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"content-type: application/problem+json" in head
    assert json.loads(body)["status"] == status


async def test_an_address_that_is_not_encoded_is_refused_with_what_to_do(connect: Connect) -> None:
    """The command line of curl sends what is typed."""
    refused = await answers(connect, "GET /mailing/api/clients/?tag=вип HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert b"percent-encode" in refused


@pytest.fixture
async def waiting(tmp_path: Path) -> AsyncIterator[Connect]:
    """Serve the request's fields after its whole body was read; never answer /never."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            return
        while (message := await receive())["type"] == "http.request":
            if not message["more_body"] and scope["path"] != "/never":
                body = b" ".join(name for name, _ in scope["headers"])
                head = [(b"content-length", str(len(body)).encode())]
                await send({"type": "http.response.start", "status": 200, "headers": head})
                await send({"type": "http.response.body", "body": body, "more_body": False})
                return

    async with serving(app, tmp_path / "api") as connect:
        yield connect


@pytest.mark.parametrize(
    "flood",
    [
        b"0\r\n" + b"x: y\r\n" * MAX_HEADER_BYTES,
        b"0\r\nx: " + b"y" * MAX_HEADER_BYTES,
        b"1;" + b"x" * MAX_HEADER_BYTES * 2,
        b"0" * MAX_HEADER_BYTES * 2,
    ],
    ids=["trailers", "one trailer", "a chunk's extension", "a chunk's size"],
)
async def test_what_is_no_body_does_not_go_on_for_ever_after_the_head_either(waiting: Connect, flood: bytes) -> None:
    assert (await answers(waiting, CHUNKED + flood))[9:12] in {b"431", b"400"}


async def test_a_trailer_is_never_taken_for_a_field_of_the_head(waiting: Connect) -> None:
    async with waiting() as (reader, writer):
        writer.write(CHUNKED + b"1\r\nx\r\n0\r\nAuthorization: Bearer x\r\n\r\n")
        assert (await reader.readuntil(b"host transfer-encoding")).startswith(b"HTTP/1.1 200 ")


async def test_a_long_body_in_chunks_of_a_byte_arrives(waiting: Connect) -> None:
    async with waiting() as (reader, writer):
        writer.write(CHUNKED + b"1\r\nx\r\n" * 50_000 + b"0\r\n\r\n")
        assert b" 200 " in await reader.readline()


async def test_a_head_sent_ahead_of_its_turn_has_the_same_limit(waiting: Connect) -> None:
    """The first request is never answered, so there is nothing to say to the second one."""
    assert await answers(waiting, NEVER + b"GET / HTTP/1.1\r\nX-Long: " + b"x" * MAX_HEADER_BYTES * 2) == b""


async def test_a_few_requests_may_be_sent_ahead_and_no_more(waiting: Connect) -> None:
    async with waiting() as (reader, writer):
        writer.write(GET * MAX_PIPELINED)
        assert [await reader.readuntil(b"host") for _ in range(MAX_PIPELINED)]
    assert await answers(waiting, NEVER + GET * (MAX_PIPELINED + 1)) == b""


async def test_the_rest_of_a_body_that_nobody_wants_is_not_waited_for(connect: Connect) -> None:
    answer = await answers(connect, POST.replace(KEY.encode(), b"wrong"))
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert answer.count(b"HTTP/1.1 ") == 1


async def big_answer(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == ScopeType.HTTP:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"10000000")]})
        await send({"type": "http.response.body", "body": bytes(10_000_000), "more_body": False})


@pytest.mark.parametrize("request_", [GET, GET.replace(b"1.1", b"1.0")], ids=["kept alive", "closed afterwards"])
async def test_a_client_that_does_not_read_its_answer_is_cut_off(tmp_path: Path, request_: bytes) -> None:
    gone = asyncio.Event()

    class Watched(Hasty):
        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            gone.set()

    async with serving(big_answer, tmp_path / "api", protocol=Watched) as connect, connect() as (reader, writer):
        writer.write(request_)
        await gone.wait()
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await reader.readexactly(10_000_000)


async def test_a_client_that_reads_slowly_but_reads_gets_its_answer(tmp_path: Path) -> None:
    async with serving(big_answer, tmp_path / "api") as connect, connect() as (reader, writer):
        writer.write(GET)
        await reader.readuntil(b"\r\n\r\n")
        for _ in range(10):
            await reader.readexactly(1_000_000)
            await asyncio.sleep(0.1)


async def test_in_a_full_process_whoever_has_waited_longest_makes_room(tmp_path: Path) -> None:
    class Small(BoundedProtocol):
        max_connections = 2

    async def app(scope: Scope, receive: Receive, _: Send) -> None:
        while scope["type"] == ScopeType.HTTP and (await receive())["type"] == "http.request":
            pass

    async with (
        serving(app, tmp_path / "api", protocol=Small) as connect,
        connect() as (idle, _),
        connect() as (_, asking),
    ):
        asking.write(GET)
        await until(lambda: len(Small.waiting_for_client) == 1)
        async with connect() as (_, third):
            assert await idle.read() == b""
            third.write(GET)
            await until(lambda: not Small.waiting_for_client)
            assert (await answers(connect)).startswith(b"HTTP/1.1 503 ")


async def test_an_answer_in_many_parts_arrives_whole_and_in_order(tmp_path: Path) -> None:
    parts = [bytes([letter]) * 100_000 for letter in b"abcde"] + [b"end"]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            return
        await receive()
        size = str(sum(map(len, parts))).encode()
        headers = [(b"content-length", size), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for number, part in enumerate(parts, 1):
            await send({"type": "http.response.body", "body": part, "more_body": number < len(parts)})

    async with serving(app, tmp_path / "api") as connect:
        head, _, body = (await answers(connect, GET)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert body == b"".join(parts)


TOO_LONG = 30_000_000
TOO_LONG_POST = POST.replace(b"Content-Length: 100", b"Content-Type: application/json\r\nContent-Length: %d" % TOO_LONG)


@pytest.mark.parametrize("more", [b"", b"Connection: close\r\n"])
async def test_a_client_that_sends_before_it_reads_gets_the_answer_to_a_body_that_is_too_long(
    connect: Connect, more: bytes
) -> None:
    """Urllib and requests read nothing before they have sent all."""
    async with connect() as (reader, writer):
        writer.write(TOO_LONG_POST.replace(b"Host", more + b"Host"))
        for _ in range(TOO_LONG // 100_000):
            writer.write(b"x" * 100_000)
            await writer.drain()
        assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 413 ")
        assert b"Too large" in (await reader.readuntil(b"}"))


@pytest.mark.parametrize("more", [b"", b"Connection: close\r\n"])
async def test_the_rest_of_a_body_is_waited_for_so_long_and_no_longer(connect: Connect, more: bytes) -> None:
    answer = await asyncio.wait_for(answers(connect, TOO_LONG_POST.replace(b"Host", more + b"Host")), 30)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert answer.count(b"HTTP/1.1") == 1
