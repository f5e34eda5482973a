"""The API's server, and how long a body may take to come.

A client that sends a byte now and then would otherwise hold its connection for ever. What comes before and after a
body is `protocol`'s.
"""

import asyncio
import os
import socket
import sys
import time
from contextlib import suppress
from typing import Any

import uvicorn
from litestar import Litestar
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

from mailing.errors import TooSlow
from mailing.web.forwarded import Forwarded
from mailing.web.http_protocol import BoundedProtocol

SOCKET_BUFFER_BYTES = 128 * 1024  # bytes of an answer that are not on their way yet
BODY_GRACE_S = 20
MIN_BODY_RATE = 10_000  # bytes a second, after the grace


def serve(app: Litestar, *, host: str, port: int) -> None:
    """Until SIGTERM; requests under way may end for 10 s."""
    server = Server(server_config(app, host=host, port=port))
    with suppress(KeyboardInterrupt):
        server.run()
    if not server.started:
        sys.exit(1)


def server_config(app: ASGIApp, **where: Any) -> uvicorn.Config:  # noqa: ANN401 - uvicorn's own
    """`where` it listens: `host` and `port`, or `uds`. Connections are limited by the protocol."""
    return uvicorn.Config(
        Forwarded(app, trusted=os.environ.get("FORWARDED_ALLOW_IPS", "127.0.0.1")),
        **{"http": BoundedProtocol, **where},
        proxy_headers=False,  # `Forwarded` reads them
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=10,
    )


class Server(uvicorn.Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """The kernel would take 3 MB for each client that reads nothing; connections inherit the listener's limit."""
        await super().startup(sockets=sockets)
        for listener in (listener for server in self.servers for listener in server.sockets):
            if hasattr(socket, "TCP_NOTSENT_LOWAT") and listener.family != socket.AF_UNIX:
                listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, SOCKET_BUFFER_BYTES)


class BodyTimeout:
    """ASGI middleware: `grace_s`, and a second more for each `MIN_BODY_RATE` bytes, is how long we wait for a body.

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
            self._patience_s += len(message.get("body", b"")) / MIN_BODY_RATE
            self._complete = not message.get("more_body", False)
        return message

    async def _in_time(self) -> Any:  # noqa: ANN401 - an ASGI event
        try:
            async with asyncio.timeout(self._patience_s):
                return await self._receive()
        except TimeoutError:
            raise TooSlow("The body came too slowly; send it again over a better connection.") from None
