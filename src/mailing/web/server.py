"""The API's HTTP server, and the timeout of request bodies.

A client that sends a byte now and then would otherwise keep its connection forever. `http_protocol` limits everything
outside bodies.
"""

import asyncio
import os
import socket
import sys
import time
from collections.abc import Awaitable
from contextlib import suppress
from typing import Any

import uvicorn
from litestar import Litestar
from litestar.types import HTTPReceiveMessage, HTTPScope, Receive, Send, WebSocketReceiveMessage

from mailing.errors import TooSlow
from mailing.observability.log import get
from mailing.web.forwarded import Forwarded
from mailing.web.http_protocol import BoundedProtocol
from mailing.web.state import HttpApp

logger = get(__name__)

SOCKET_BUFFER_BYTES = 128 * 1024  # unsent bytes of an answer in the kernel
BODY_GRACE_S = 20
MIN_BODY_RATE = 10_000  # bytes per second, after the grace


def serve(app: Litestar, *, host: str, port: int) -> None:
    """Serve until SIGTERM, then let requests finish for 10 s."""
    server = Server(server_config(app, host=host, port=port))
    with suppress(KeyboardInterrupt):
        server.run()
    if not server.started:
        sys.exit(1)


def server_config(app: HttpApp, **where: Any) -> uvicorn.Config:  # noqa: ANN401 - uvicorn's own
    """Build the configuration. `where` is `host` and `port`, or `uds`. The protocol limits connections."""
    return uvicorn.Config(
        Forwarded(app, trusted=os.environ.get("FORWARDED_ALLOW_IPS", "127.0.0.1")),
        **{"http": BoundedProtocol, **where},
        proxy_headers=False,  # `Forwarded` reads them
        interface="asgi3",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=10,
    )


class Server(uvicorn.Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Limit the kernel's send buffer, else 3 MB per client that does not read. Connections inherit it."""
        await super().startup(sockets=sockets)
        for listener in (listener for server in self.servers for listener in server.sockets):
            if hasattr(socket, "TCP_NOTSENT_LOWAT") and listener.family != socket.AF_UNIX:
                listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, SOCKET_BUFFER_BYTES)
        if self.started:
            logger.info("api started", host=self.config.host, port=self.config.port)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets=sockets)
        logger.info("api stopped")  # here, because uvicorn ends the process by the signal that it got


class BodyTimeout:
    """ASGI middleware: wait for a body `grace_s`, plus a second for each MIN_BODY_RATE bytes.

    Only waiting counts, not the processing of chunks. TooSlow is raised where the body is read.
    """

    def __init__(self, app: HttpApp, *, grace_s: float = BODY_GRACE_S) -> None:
        self.app = app
        self.grace_s = grace_s

    def __call__(self, scope: HTTPScope, receive: Receive, send: Send) -> Awaitable[None]:
        return self.app(scope, _Body(receive, self.grace_s).receive, send)


class _Body:
    def __init__(self, receive: Receive, remaining_s: float) -> None:
        self._receive = receive
        self._remaining_s = remaining_s
        self._complete = False

    async def receive(self) -> HTTPReceiveMessage | WebSocketReceiveMessage:
        """Receive in time. After the body there is no limit: the next event is the disconnect."""
        if self._complete:
            return await self._receive()
        began = time.monotonic()
        message = await self._in_time()
        self._remaining_s -= time.monotonic() - began
        if message["type"] == "http.request":
            self._remaining_s += len(message.get("body", b"")) / MIN_BODY_RATE
            self._complete = not message.get("more_body", False)
        return message

    async def _in_time(self) -> HTTPReceiveMessage | WebSocketReceiveMessage:
        try:
            async with asyncio.timeout(self._remaining_s):
                return await self._receive()
        except TimeoutError:
            raise TooSlow("The body arrived too slowly. Send it again over a better connection.") from None
