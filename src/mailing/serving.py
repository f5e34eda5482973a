"""The API's server, and the limits that uvicorn lacks: how long a request may take to come, and how large its head is.

A client that sends a byte now and then would otherwise hold its connection for ever.
"""

import asyncio
import time
from typing import Any

import uvicorn
from litestar import Litestar
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from mailing.errors import TooSlow

CONNECTIONS = 900  # at once, for each process: below the usual limit of 1,024 open files; more are answered 503
HEAD_S = 10
HEAD_BYTES = 64 * 1024
TOGETHER_BYTES = 64 * 1024  # of answers, before they are written all the same
BODY_GRACE_S = 20
BODY_RATE = 10_000  # bytes a second, after the grace


def serve(app: Litestar, *, host: str, port: int) -> None:
    """Until SIGTERM; requests under way may end for 10 s."""
    uvicorn.run(
        app,
        host=host,
        port=port,
        http=ImpatientProtocol,
        ws="none",
        limit_concurrency=CONNECTIONS,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=10,
    )


class ImpatientProtocol(HttpToolsProtocol):
    """A request's head must arrive within HEAD_S and HEAD_BYTES, the first one counted from the connection."""

    head_s: float = HEAD_S
    _deadline: asyncio.TimerHandle | None = None
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        super().connection_made(transport)
        self.transport: Any = Together(transport, self.loop)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        if self._deadline is None and self._idle():
            self._await_head()
        super().data_received(data)
        if self._deadline is None:
            return
        self._head_bytes += len(data)
        if self._head_bytes > HEAD_BYTES:
            self._refuse(b"431 Request Header Fields Too Large")

    def _idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete  # type: ignore[redundant-expr] # None at first

    def on_headers_complete(self) -> None:
        self._stop_waiting()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        self._head_bytes = 0
        self._deadline = self.loop.call_later(self.head_s, self._refuse, b"408 Request Timeout")

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _refuse(self, status: bytes) -> None:
        self._stop_waiting()
        if not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 " + status + b"\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
            self.transport.close()


class Together:
    """A transport that hands on what one turn of the event loop wrote at its end: an answer's head with its body.

    uvicorn writes them apart, and each write is a system call, and a client that is woken twice.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held: list[bytes] = []
        self._size = 0

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever else a transport has
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if not self._held:
            self._loop.call_soon(self._flush)
        self._held.append(data)
        self._size += len(data)
        if self._size > TOGETHER_BYTES:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._held:
            self._transport.write(b"".join(self._held))
            self._held.clear()
            self._size = 0


class PunctualBodies:
    """ASGI middleware: `grace_s`, and a second more for each `BODY_RATE` bytes, is how long we wait for a body.

    Only waiting counts, not what is done with the parts that came. Raises TooSlow where the body is read.
    """

    def __init__(self, app: ASGIApp, *, grace_s: float = BODY_GRACE_S) -> None:
        self.app = app
        self.grace_s = grace_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = _Body(receive, self.grace_s)
        await self.app(scope, body.receive if scope["type"] == ScopeType.HTTP else receive, send)


class _Body:
    def __init__(self, receive: Receive, patience_s: float) -> None:
        self._receive = receive
        self._patience_s = patience_s
        self._complete = False

    async def receive(self) -> Any:  # noqa: ANN401 - an ASGI event
        """After the body, whoever waits learns when the client goes: that may be long."""
        if self._complete:
            return await self._receive()
        began = time.monotonic()
        message = await self._in_time()
        self._patience_s -= time.monotonic() - began
        if message["type"] == "http.request":
            self._patience_s += len(message.get("body", b"")) / BODY_RATE
            self._complete = not message.get("more_body", False)
        return message

    async def _in_time(self) -> Any:  # noqa: ANN401 - an ASGI event
        try:
            async with asyncio.timeout(self._patience_s):
                return await self._receive()
        except TimeoutError:
            raise TooSlow("The body came too slowly; send it again over a better connection.") from None
