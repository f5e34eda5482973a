"""Concurrency limits for expensive requests, per caller and per process.

The limit is acquired before the body is read, and released when the request ends, however it ends. A caller over the
limit does not wait: the answer is 429.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Final, cast

from litestar.handlers import BaseRouteHandler
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from mailing.errors import TooMany, TooSlow
from mailing.web.state import AnyConnection, AppState

CONCURRENCY_LIMIT: Final = "concurrency_limit"  # a key in a handler's `opt`: the name of its limit
RETRY_AFTER_S: Final = 10
ASSUMED_BYTES: Final = 200_000_000  # of a body without Content-Length: the maximum
READER_GRACE_S: Final = 30.0
READER_RATE: Final = 10_000  # bytes per second, after the grace: a slower reader is disconnected

_RELEASES: Final = "concurrency_releases"


class ConcurrencyLimit:
    """At most `total` requests in this process, `each` per caller, and `max_bytes` of bodies together."""

    def __init__(self, name: str, *, total: int, each: int, max_bytes: int = 0) -> None:
        """`name` says what is limited, in the plural, for the messages."""
        self._name = name
        self._total, self._each, self._max_bytes = total, each, max_bytes
        self._held: Counter[str] = Counter()
        self._bytes = 0

    def acquire(self, caller: str, size: int | None = 0) -> Callable[[], None]:
        """Return the function that releases the limit. `size` is the body's, None if unknown. Raise TooMany."""
        size = ASSUMED_BYTES if size is None else size
        if self._held[caller] >= self._each:
            message = f"You have {self._each} {self._name} in progress. Try again when one has ended."
            raise TooMany(message, wait_s=RETRY_AFTER_S)
        if self._held.total() >= self._total or (self._bytes and self._bytes + size > self._max_bytes):
            many = "Too many or too large" if self._max_bytes else "Too many"
            message = f"{many} {self._name} are in progress. Try again in a few seconds."
            raise TooMany(message, wait_s=RETRY_AFTER_S)
        self._held[caller] += 1
        self._bytes += size

        def release() -> None:
            self._bytes -= size
            self._held[caller] -= 1
            self._held += Counter()  # drops callers at zero

        return release


class LimitsState(AppState):
    concurrency_limits: dict[str, ConcurrencyLimit]


async def limit_concurrency(connection: AnyConnection, handler: BaseRouteHandler) -> None:
    """Acquire the handler's limit, if it has one. Call it after the caller is known."""
    if CONCURRENCY_LIMIT not in handler.opt:
        return
    limit = cast("LimitsState", connection.app.state).concurrency_limits[handler.opt[CONCURRENCY_LIMIT]]
    release = limit.acquire(str(connection.scope["user"]), _length(connection))
    connection.scope["state"].setdefault(_RELEASES, []).append(release)


def _length(connection: AnyConnection) -> int | None:
    """Return the body's Content-Length, None if it is missing or malformed."""
    if connection.scope.get("method") == "GET":
        return 0
    given = connection.headers.get("content-length", "")
    return int(given) if given.isascii() and given.isdigit() and len(given) < 20 else None


class ReleaseLimits:
    """ASGI middleware of a route with a limit: release it when the request ends.

    A client that reads the answer too slowly is disconnected before its end.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self.app(scope, receive, _TimedSend(send).send)
        finally:
            for release in scope["state"].pop(_RELEASES, ()):
                release()


def limited(name: str) -> dict[str, Any]:
    """Return the arguments of a route that give it this limit."""
    return {"opt": {CONCURRENCY_LIMIT: name}, "middleware": [ReleaseLimits]}


class _TimedSend:
    def __init__(self, send: Send) -> None:
        self._send = send
        self._remaining_s = READER_GRACE_S

    async def send(self, message: Message) -> None:
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._remaining_s):
                await self._send(message)
        except TimeoutError:
            raise TooSlow("The answer was read too slowly. Try again over a better connection.") from None
        self._remaining_s -= time.monotonic() - began
        if message["type"] == "http.response.body":
            self._remaining_s += len(message["body"]) / READER_RATE
