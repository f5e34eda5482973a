"""What many open pages ask for in the same moment is read once."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar, cast

from litestar.connection import ASGIConnection

T = TypeVar("T")


class Shared:
    """Readings of one process, each kept for a moment; who asks while one is under way waits for the same."""

    def __init__(self) -> None:
        self._readings: dict[object, tuple[float, asyncio.Task[Any]]] = {}

    async def read(self, key: object, reader: Callable[[], Coroutine[Any, Any, T]], *, for_s: float) -> T:
        """A failure is everybody's who waits for it, and is not kept."""
        until, reading = self._readings.get(key, (0.0, None))
        if reading is None or until <= time.monotonic() or _failed(reading):
            self._forget()
            reading = asyncio.create_task(reader())
            self._readings[key] = time.monotonic() + for_s, reading
        return cast("T", await asyncio.shield(cast("Awaitable[Any]", reading)))

    def _forget(self) -> None:
        now = time.monotonic()
        self._readings = {key: kept for key, kept in self._readings.items() if kept[0] > now}


def _failed(reading: asyncio.Task[Any]) -> bool:
    return reading.done() and (reading.cancelled() or reading.exception() is not None)


def shared(connection: ASGIConnection[Any, Any, Any, Any]) -> Shared:
    state = connection.app.state
    if "shared" not in state:
        state.shared = Shared()
    return cast("Shared", state.shared)
