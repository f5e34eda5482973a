"""One slot for each connection to the gateway, shared by all mailings of a process."""

import asyncio
from collections import Counter, deque
from itertools import count as count_up
from typing import NamedTuple


class CallSlots:
    """A fair semaphore: slots are granted in the order of claims.

    A mailing without a call under way comes first, because it may be waiting for its very first call.
    """

    def __init__(self, count: int) -> None:
        self._free = count
        self._calling: Counter[int] = Counter()  # calls under way by mailing
        self._waiting: dict[int, deque[_Waiter]] = {}  # by mailing
        self._positions = count_up()

    async def acquire(self, mailing_id: int) -> None:
        if self._free:
            self._grant(mailing_id)
            return
        waiter = _Waiter(next(self._positions), asyncio.get_running_loop().create_future())
        self._waiting.setdefault(mailing_id, deque()).append(waiter)
        try:
            await waiter.granted
        except asyncio.CancelledError:
            if not waiter.granted.cancelled():
                self.release(mailing_id)
            raise

    def release(self, mailing_id: int) -> None:
        self._free += 1
        self._calling[mailing_id] -= 1
        if not self._calling[mailing_id]:
            del self._calling[mailing_id]
        while self._waiting and self._free:
            first = min(self._waiting, key=self._priority)
            granted = self._waiting[first].popleft().granted
            if not self._waiting[first]:
                del self._waiting[first]
            if not granted.cancelled():
                self._grant(first)
                granted.set_result(None)

    def _grant(self, mailing_id: int) -> None:
        self._free -= 1
        self._calling[mailing_id] += 1

    def _priority(self, mailing_id: int) -> tuple[bool, int]:
        return mailing_id in self._calling, self._waiting[mailing_id][0].position


class _Waiter(NamedTuple):
    position: int
    granted: asyncio.Future[None]
