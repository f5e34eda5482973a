"""Many requests for the same data in the same moment read it once."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar, cast

T = TypeVar("T")


class SingleFlight:
    """Results of one process, each cached briefly. A request that finds a read under way waits for its result."""

    def __init__(self) -> None:
        self._reads: dict[object, tuple[float, asyncio.Task[Any]]] = {}

    async def read(self, key: object, reader: Callable[[], Coroutine[Any, Any, T]], *, cache_s: float) -> T:
        """Return the cached or shared result. A failure is raised in every waiting request, and is not cached."""
        until, read = self._reads.get(key, (0.0, None))
        if read is None or until <= time.monotonic() or _failed(read):
            now = time.monotonic()
            self._reads = {each: entry for each, entry in self._reads.items() if entry[0] > now}
            read = asyncio.create_task(reader())
            self._reads[key] = now + cache_s, read
        return cast("T", await asyncio.shield(cast("Awaitable[Any]", read)))


def _failed(read: asyncio.Task[Any]) -> bool:
    return read.done() and (read.cancelled() or read.exception() is not None)
