"""Clients that send slowly or without end, at a real socket."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
import uvicorn
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

from conftest import KEY
from mailing.app import create_app
from mailing.serving import HEAD_BYTES, TOGETHER_BYTES, ImpatientProtocol, PunctualBodies
from mailing.settings import Settings

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect = Callable[[], AbstractAsyncContextManager[Streams]]

POST = (
    f"POST /mailing/api/mailings HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nContent-Length: 100\r\n\r\n"
).encode()
GET = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"


class Hasty(ImpatientProtocol):
    head_s = 0.3


@asynccontextmanager
async def serving(app: ASGIApp, path: Path) -> AsyncIterator[Connect]:
    """On a socket in the file system: no port to look for."""
    server = uvicorn.Server(uvicorn.Config(app, uds=str(path), http=Hasty, log_config=None, access_log=False))
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
    app = create_app(settings)
    app.asgi_handler = PunctualBodies(app.asgi_handler, grace_s=0.3)
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
    flood = b"GET / HTTP/1.1\r\nX-Long: " + b"x" * HEAD_BYTES
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


async def test_an_answer_in_many_parts_arrives_whole_and_in_order(tmp_path: Path) -> None:
    parts = [bytes([letter]) * TOGETHER_BYTES for letter in b"abcde"] + [b"end"]

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
