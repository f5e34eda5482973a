"""The claim budget: how many messages a process may claim ahead, and which mailing claims next."""

import asyncio
import time
from collections import Counter
from typing import NamedTuple

BUFFER_S = 0.5
SAMPLE_S = 0.25  # the pace is measured over at least this time, because all connections may answer at the same moment
MAX_CLAIMED = 3000
MAX_UNRECORDED = 1000  # results of a second or less, usually a tenth of that; a killed process loses them
ROUND_S = 4.0
MIN_CLAIM = 4  # a claim of one message costs as much as one of ten
HEAD_START_S = 10.0


class ClaimBudget:
    """Bounds the claimed messages that a process holds to half a second's work at its measured pace.

    With more, messages would wait under their leases while a slow gateway crawls. With fewer, connections would be idle
    between two claims. Mailings claim in turn, each its share of ROUND_S of work. The mailing whose turn is longest ago
    is next. One that has just begun comes before all that had a turn in the last HEAD_START_S, and begins with a single
    message, so that many mailings that begin at once don't wait for each other. A claim that found nothing was no turn.

    Results that are not recorded yet have a bound of their own: nothing is claimed while MAX_UNRECORDED wait.
    """

    def __init__(self, concurrency: int) -> None:
        self._min_limit = 2 * concurrency
        self._limit = self._min_limit
        self._round = self._min_limit
        self._held: Counter[int] = Counter()  # by mailing
        self._unrecorded = 0
        self._waiting: dict[int, _Waiter] = {}  # by mailing
        self._last_turns: dict[int, float] = {}  # by mailing, the newest at the end
        self._grant_scheduled = False
        self._completed = 0  # since `_sampled_at`
        self._sampled_at = time.monotonic()

    async def acquire(self, mailing_id: int, most: int) -> int:
        """Wait until a claim is worth its statements. Return how many messages may be claimed, at least 1."""
        now = time.monotonic()
        since = max(self._last_turns.get(mailing_id, now - HEAD_START_S), now - HEAD_START_S)
        waiter = self._waiting[mailing_id] = _Waiter(since, most, asyncio.get_running_loop().create_future())
        self._grant_waiting()
        try:
            return await waiter.granted
        except asyncio.CancelledError:
            if self._waiting.pop(mailing_id, None) is None:
                self._release(mailing_id, waiter.granted.result())
            raise

    def end_claim(self, mailing_id: int, *, acquired: int, claimed: int) -> None:
        """Give back what was acquired and not claimed."""
        if claimed:
            self._record_turn(mailing_id)
        self._release(mailing_id, acquired - claimed)

    def complete(self, mailing_id: int) -> None:
        """Release one claimed message that is done, and measure the pace by it."""
        self._completed += 1
        elapsed = time.monotonic() - self._sampled_at
        if elapsed >= SAMPLE_S:
            pace = self._completed / elapsed
            self._limit = min(max(self._min_limit, int(pace * BUFFER_S)), MAX_CLAIMED)
            self._round = int(pace * ROUND_S)
            self._completed, self._sampled_at = 0, time.monotonic()
        self._release(mailing_id, 1)

    def add_unrecorded(self) -> None:
        self._unrecorded += 1

    def remove_unrecorded(self, count: int) -> None:
        """Count results as recorded, or as given up."""
        self._unrecorded -= count
        self._schedule_grants()

    def _release(self, mailing_id: int, count: int) -> None:
        self._held[mailing_id] -= count
        if not self._held[mailing_id]:
            del self._held[mailing_id]
        self._schedule_grants()

    def _schedule_grants(self) -> None:
        """Grant once for all messages that are done in the same iteration of the event loop."""
        if self._waiting and not self._grant_scheduled:
            self._grant_scheduled = True
            asyncio.get_running_loop().call_soon(self._grant_waiting)

    def _grant_waiting(self) -> None:
        self._grant_scheduled = False
        while self._waiting and self._unrecorded < MAX_UNRECORDED:
            first = min(self._waiting, key=lambda mailing_id: self._waiting[mailing_id].since)
            count = self._grantable(first)
            if not count:
                return
            self._held[first] += count
            self._waiting.pop(first).granted.set_result(count)

    def _grantable(self, mailing_id: int) -> int:
        """How many messages this mailing may claim now; 0 while they would be too few to be worth a claim."""
        share = min(self._waiting[mailing_id].most, self._share(mailing_id))
        free = self._limit - self._held.total()
        return min(share, free) if free >= min(share, self._limit // 2) else 0

    def _share(self, mailing_id: int) -> int:
        mailings = len(self._held.keys() | self._waiting.keys())
        if mailings == 1:
            return self._limit
        if mailing_id not in self._last_turns:
            return 1
        return min(self._limit, max(MIN_CLAIM, self._round // mailings))

    def _record_turn(self, mailing_id: int) -> None:
        now = time.monotonic()
        self._last_turns.pop(mailing_id, None)
        self._last_turns[mailing_id] = now
        while now - next(iter(self._last_turns.values())) > HEAD_START_S:
            del self._last_turns[next(iter(self._last_turns))]


class _Waiter(NamedTuple):
    since: float
    most: int
    granted: asyncio.Future[int]
