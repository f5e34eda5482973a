"""Single flight: concurrent requests for the same data read it once."""

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
        """Return the cached or shared result. A failure is raised in every waiting request, and is not cached.

        With `cache_s` 0 only requests that find the read under way share it.
        """
        now = time.monotonic()
        self._reads = {each: entry for each, entry in self._reads.items() if _may_be_shared(*entry, now=now)}
        if key not in self._reads:
            self._reads[key] = now + cache_s, asyncio.create_task(reader())
        return cast("T", await asyncio.shield(cast("Awaitable[Any]", self._reads[key][1])))


def _may_be_shared(until: float, read: asyncio.Task[Any], *, now: float) -> bool:
    return not read.done() or (now < until and not read.cancelled() and read.exception() is None)
