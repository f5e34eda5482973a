"""Places for what costs much while it lasts: few at once, for a caller and for a process.

A place is taken before a byte of the body is read or of the answer written, and given back when the request is over,
however it ends. Nobody waits for one: a caller without a place is told to come again.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from litestar.connection import ASGIConnection
from litestar.enums import ScopeType
from litestar.handlers import BaseRouteHandler
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from mailing.errors import TooMany, TooSlow

CONCURRENCY_LIMIT: Final = "place"  # in a handler's `opt`: which of the process's `ConcurrencyLimit` it needs
RETRY_AFTER_S: Final = 10
ASSUMED_BYTES: Final = 200_000_000  # a body that does not say how long it is may become the longest
READER_GRACE_S: Final = 30.0
READER_RATE: Final = 10_000  # bytes a second, after the grace: who reads more slowly gives the place up

_RELEASES: Final = "held_places"


class ConcurrencyLimit:
    """`total` in this process and `each` for a caller, and together no more than `most_bytes` of bodies."""

    def __init__(self, *, total: int, each: int, yours: str, all_: str, most_bytes: int = 0) -> None:
        """`yours` and `all_` are the sentences for whoever gets no place."""
        self._total, self._each, self._most_bytes = total, each, most_bytes
        self._yours, self._all = yours, all_
        self._held: Counter[str] = Counter()
        self._bytes = 0

    def take(self, caller: str, size: int | None = 0) -> Callable[[], None]:
        """Returns what gives the place back. `size` is that of a body, None where it is not known. Raises TooMany."""
        size = ASSUMED_BYTES if size is None else size
        if self._held[caller] >= self._each:
            raise TooMany(self._yours, wait_s=RETRY_AFTER_S)
        if self._held.total() >= self._total or (self._bytes and self._bytes + size > self._most_bytes):
            raise TooMany(self._all, wait_s=RETRY_AFTER_S)
        self._held[caller] += 1
        self._bytes += size

        def give_back() -> None:
            self._bytes -= size
            self._held[caller] -= 1
            self._held += Counter()  # forgets callers who hold none

        return give_back


async def limit_concurrency(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """A guard, after the one that finds out who asks."""
    places: ConcurrencyLimit = connection.app.state.places[handler.opt[CONCURRENCY_LIMIT]]
    give_back = places.take(str(connection.scope["user"]), _length(connection))
    connection.scope["state"].setdefault(_RELEASES, []).append(give_back)


def _length(connection: ASGIConnection[Any, Any, Any, Any]) -> int | None:
    """None for a body that does not say how long it is."""
    if connection.scope.get("method") == "GET":
        return 0
    told = connection.headers.get("content-length", "")
    return int(told) if told.isascii() and told.isdigit() and len(told) < 20 else None


class ReleaseLimits:
    """ASGI middleware around whatever holds places: they are free again when the request is over.

    A reader who is too slow for a place loses the connection, before the answer's end.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await self.app(scope, receive, send)
            return
        reader = _TimedSend(send, scope["state"])
        try:
            await self.app(scope, receive, reader.send)
        finally:
            for give_back in scope["state"].pop(_RELEASES, ()):
                give_back()


class _TimedSend:
    def __init__(self, send: Send, state: dict[str, Any]) -> None:
        self._send = send
        self._state = state
        self._patience_s = READER_GRACE_S

    async def send(self, message: Message) -> None:
        if _RELEASES not in self._state:
            await self._send(message)
            return
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._patience_s):
                await self._send(message)
        except TimeoutError:
            raise TooSlow("The answer was read too slowly; ask again over a better connection.") from None
        self._patience_s -= time.monotonic() - began
        if message["type"] == "http.response.body":
            self._patience_s += len(message["body"]) / READER_RATE
