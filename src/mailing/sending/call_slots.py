"""A slot for each connection to the gateway, shared by all mailings of a process."""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count as count_up
from typing import NamedTuple


class CallSlots:
    """One for each connection to the gateway, given in the order of claims. A mailing without a call under way comes
    first: it may be waiting for its very first.
    """

    def __init__(self, count: int) -> None:
        self._free = count
        self._calling: Counter[int] = Counter()  # by mailing
        self._waiting: dict[int, deque[_Caller]] = {}  # by mailing
        self._numbers = count_up()

    @asynccontextmanager
    async def one(self, mailing_id: int) -> AsyncIterator[None]:
        await self._take(mailing_id)
        try:
            yield
        finally:
            self._give_back(mailing_id)

    async def _take(self, mailing_id: int) -> None:
        if self._free:
            self._grant(mailing_id)
            return
        caller = _Caller(next(self._numbers), asyncio.get_running_loop().create_future())
        self._waiting.setdefault(mailing_id, deque()).append(caller)
        try:
            await caller.granted
        except asyncio.CancelledError:
            if not caller.granted.cancelled():
                self._give_back(mailing_id)
            raise

    def _grant(self, mailing_id: int) -> None:
        self._free -= 1
        self._calling[mailing_id] += 1

    def _give_back(self, mailing_id: int) -> None:
        self._free += 1
        self._calling[mailing_id] -= 1
        if not self._calling[mailing_id]:
            del self._calling[mailing_id]
        while self._waiting and self._free:
            first = min(self._waiting, key=self._place)
            granted = self._waiting[first].popleft().granted
            if not self._waiting[first]:
                del self._waiting[first]
            if not granted.cancelled():
                self._grant(first)
                granted.set_result(None)

    def _place(self, mailing_id: int) -> tuple[bool, int]:
        return mailing_id in self._calling, self._waiting[mailing_id][0].number


class _Caller(NamedTuple):
    number: int
    granted: asyncio.Future[None]
