"""How many messages a process may claim, and which mailing is next."""

import asyncio
import time
from collections import Counter
from typing import NamedTuple

BUFFER_S = 0.5
SAMPLE_S = 0.25  # all connections answering in one such moment tell no higher pace than what is held at least
MAX_CLAIMED = 3000
MOST_UNRECORDED = 1000  # of a second or less, as a rule a tenth of that; what a killed process takes with it
ROUND_S = 4.0
LEAST_CLAIM = 4  # a claim of one message costs as much as one of ten
HEAD_START_S = 10.0


class ClaimBudget:
    """How many claimed messages the process may hold: about half a second's work at the pace it has.

    More would lie under their leases while a slow gateway crawls; fewer would leave its connections idle between two
    claims. Mailings claim in turn, each its part of ROUND_S of work. Whose turn is longest ago is first; one that has
    just begun comes before all that had a turn in the last HEAD_START_S, and begins with a single message, so that
    many that begin at once don't wait for each other.

    A result that is not stored yet takes up room too, of its own: nothing is claimed while MOST_UNRECORDED wait.
    """

    def __init__(self, concurrency: int) -> None:
        self._least = 2 * concurrency
        self._limit = self._least
        self._round = self._least
        self._held: Counter[int] = Counter()  # by mailing
        self._unrecorded = 0
        self._waiting: dict[int, _Asked] = {}  # by mailing
        self._turns: dict[int, float] = {}  # by mailing, the newest at the end
        self._scheduled = False
        self._done = 0
        self._measured_at = time.monotonic()

    async def take(self, mailing_id: int, most: int) -> int:
        """Waits until a claim is worth its statements; returns how many may be claimed, at least 1."""
        now = time.monotonic()
        since = max(self._turns.get(mailing_id, now - HEAD_START_S), now - HEAD_START_S)
        asked = self._waiting[mailing_id] = _Asked(since, most, asyncio.get_running_loop().create_future())
        self._give_out()
        try:
            return await asked.taken
        except asyncio.CancelledError:
            if self._waiting.pop(mailing_id, None) is None:
                self.give_back(mailing_id, asked.taken.result())
            raise

    def give_back(self, mailing_id: int, count: int) -> None:
        self._held[mailing_id] -= count
        if not self._held[mailing_id]:
            del self._held[mailing_id]
        self._give_out_soon()

    def owe(self) -> None:
        """One result more that is to be stored."""
        self._unrecorded += 1

    def settled(self, count: int) -> None:
        """So many results are stored, or given up."""
        self._unrecorded -= count
        self._give_out_soon()

    def _give_out_soon(self) -> None:
        """Once for all that end in the same moment."""
        if self._waiting and not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._give_out)

    def done(self, mailing_id: int) -> None:
        """One message less to hold, and one more to measure the pace by."""
        self._done += 1
        elapsed = time.monotonic() - self._measured_at
        if elapsed >= SAMPLE_S:
            pace = self._done / elapsed
            self._limit = min(max(self._least, int(pace * BUFFER_S)), MAX_CLAIMED)
            self._round = int(pace * ROUND_S)
            self._done, self._measured_at = 0, time.monotonic()
        self.give_back(mailing_id, 1)

    def _give_out(self) -> None:
        self._scheduled = False
        while self._waiting and self._unrecorded < MOST_UNRECORDED:
            first = min(self._waiting, key=lambda mailing_id: self._waiting[mailing_id].since)
            count = self._may_take(first)
            if not count:
                return
            self._held[first] += count
            self._note_turn(first)
            self._waiting.pop(first).taken.set_result(count)

    def _may_take(self, mailing_id: int) -> int:
        """0 while it would be too few."""
        part = min(self._waiting[mailing_id].most, self._part(mailing_id))
        free = self._limit - self._held.total()
        return min(part, free) if free >= min(part, self._limit // 2) else 0

    def _part(self, mailing_id: int) -> int:
        mailings = len(self._held.keys() | self._waiting.keys())
        if mailings == 1:
            return self._limit
        if mailing_id not in self._turns:
            return 1
        return min(self._limit, max(LEAST_CLAIM, self._round // mailings))

    def _note_turn(self, mailing_id: int) -> None:
        now = time.monotonic()
        self._turns.pop(mailing_id, None)
        self._turns[mailing_id] = now
        while now - next(iter(self._turns.values())) > HEAD_START_S:
            del self._turns[next(iter(self._turns))]


class _Asked(NamedTuple):
    since: float
    most: int
    taken: asyncio.Future[int]
