"""A gateway on a socket of this process that answers as a test says, byte for byte, and the client that calls it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ssl import SSLContext
from typing import Any

from mailing.gateway.client import GatewayClient
from mailing.gateway.outcome import Answer
from mailing.gateway.providers.probe import Probe
from mailing.reasons.codes import words_of
from mailing.settings import Settings
from support.raw_server import Handler, serving

PHONE, TEXT, TOKEN = "79161234567", "Привет, мир", "a.secret.token"
OK = b'HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{"code":0}'


def gateway(port: int, *, timeout_s: float = 5.0, concurrency: int = 4, scheme: str = "http") -> GatewayClient:
    url = f"{scheme}://127.0.0.1:{port}/v1"
    return GatewayClient(
        Probe(Settings(gateway_token=TOKEN)), base_url=url, timeout_s=timeout_s, concurrency=concurrency
    )


@asynccontextmanager
async def calling(
    handler: Handler,
    *,
    tls: SSLContext | None = None,
    **how: Any,  # noqa: ANN401 - as `gateway` takes them
) -> AsyncIterator[GatewayClient]:
    """Start a server with this handler, and yield a client that calls it."""
    async with serving(handler, tls=tls) as port, gateway(port, **how) as client:
        yield client


async def send(client: GatewayClient, message_id: int = 7, *, time_left_s: float = 60.0) -> Answer:
    """Send one message; its answer may tell no secret."""
    answer = await client.send(message_id, phone=PHONE, text=TEXT, time_left_s=time_left_s)
    assert answer is not None
    words = words_of(answer.full_reason)
    assert len(words) <= 200
    assert words.isprintable()
    assert not any(secret in words for secret in (PHONE, TEXT, TOKEN))
    return answer


@dataclass(frozen=True)
class Request:
    head: bytes
    body: bytes

    @property
    def path(self) -> str:
        return self.head.split(b" ", 2)[1].decode()

    @property
    def words(self) -> str:
        """On one line: fit for a header or a reason."""
        return " ".join((self.head + self.body).decode("latin-1").split())

    @property
    def message_id(self) -> int:
        return int(self.path.rpartition("/")[2])


async def read_request(reader: asyncio.StreamReader) -> Request:
    head = await reader.readuntil(b"\r\n\r\n")
    lengths = (line[15:] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    return Request(head, await reader.readexactly(int(next(lengths, b"0"))))


def keeping(connections: list[list[int]]) -> Handler:
    """Return a handler that accepts every message, and appends a list of ids to `connections` for each connection."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(ids := list[int]())
        while True:
            ids.append((await read_request(reader)).message_id)
            writer.write(OK)

    return handler


def answering(raw: bytes, requests: list[Request] | None = None) -> Handler:
    """Return a handler that answers one request on each connection, and appends it to `requests`."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await read_request(reader)
        if requests is not None:
            requests.append(request)
        writer.write(raw)
        await writer.drain()

    return handler
