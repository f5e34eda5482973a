"""An open-loop load on the API: requests begin at their time whatever became of those before, and none is left out.

A request that waits in line counts from the moment it should have begun, so a stall can't hide behind itself.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence

import aiohttp
import msgspec

TIMEOUT_S = 30


class Latencies(msgspec.Struct):
    """In milliseconds. `statuses` counts answers; 0 stands for a connection that failed or took TIMEOUT_S."""

    took_ms: list[float] = msgspec.field(default_factory=list)
    statuses: Counter[int] = msgspec.field(default_factory=Counter)

    def percentile(self, percent: float) -> float:
        ordered = sorted(self.took_ms)
        return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] if ordered else float("nan")

    @property
    def failures(self) -> int:
        return sum(count for status, count in self.statuses.items() if status == 0 or status >= 500)


async def load(base_url: str, key: str, paths: Sequence[str], *, rate: float, seconds: float) -> Latencies:
    """Request `paths` in turn, `rate` a second."""
    found = Latencies()
    begin = time.monotonic() + 0.1
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    headers = {"Authorization": f"Bearer {key}"}
    async with (
        aiohttp.ClientSession(base_url, headers=headers, timeout=timeout, connector=aiohttp.TCPConnector()) as http,
        asyncio.TaskGroup() as requests,
    ):
        for number in range(int(rate * seconds)):
            due = begin + number / rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            requests.create_task(_get(http, paths[number % len(paths)], due, found))
    return found


async def _get(http: aiohttp.ClientSession, path: str, due: float, found: Latencies) -> None:
    status = 0
    try:
        async with http.get(path) as answer:
            await answer.read()
            status = answer.status
    except (aiohttp.ClientError, TimeoutError):
        pass
    found.took_ms.append((time.monotonic() - due) * 1000)
    found.statuses[status] += 1
