"""What the send jobs of one worker process share."""

import asyncio
import time
from dataclasses import dataclass, field

from mailing.db import Sessions
from mailing.gateway.client import Gateway
from mailing.gateway.gate import Gate
from mailing.messages.repository import lease_for
from mailing.sending.next_step import Policy
from mailing.sending.recording import Recording
from mailing.tallies import Tallies
from mailing.ticks import Ticks, ticks

HELD_S = 0.5
MEASURED_S = 0.25  # all connections answering in one such moment tell no higher pace than what is held at least
MOST_HELD = 3000
MOST_UNRECORDED = 1000  # of a second or less, as a rule a tenth of that; what a killed process takes with it


class Capacity:
    """How many claimed messages the process may hold: about half a second's work at the pace it has.

    More would lie under their leases while a slow gateway crawls; fewer would leave its connections idle between two
    claims. Whoever asks first is served first, so a small mailing waits for one claim of a big one at most.

    A result that is not stored yet takes up room too, of its own: nothing is claimed while MOST_UNRECORDED wait.
    """

    def __init__(self, concurrency: int) -> None:
        self._least = 2 * concurrency
        self._limit = self._least
        self._held = 0
        self._unrecorded = 0
        self._done = 0
        self._measured_at = time.monotonic()
        self._turn = asyncio.Lock()
        self._room = asyncio.Event()

    async def take(self, most: int) -> int:
        """Waits until a claim is worth its statements; returns how many may be claimed, at least 1."""
        async with self._turn:
            while not self._worth_it(most):
                self._room.clear()
                await self._room.wait()
            taken = min(most, self._limit - self._held)
            self._held += taken
            return taken

    def _worth_it(self, most: int) -> bool:
        """Asked again and again, because the limit may shrink meanwhile."""
        return self._unrecorded < MOST_UNRECORDED and self._limit - self._held >= min(most, self._limit // 2)

    def give_back(self, count: int) -> None:
        self._held -= count
        self._room.set()

    def done(self) -> None:
        """One message less to hold, and one more to measure the pace by."""
        self._done += 1
        self.give_back(1)
        elapsed = time.monotonic() - self._measured_at
        if elapsed >= MEASURED_S:
            self._limit = min(max(self._least, int(self._done / elapsed * HELD_S)), MOST_HELD)
            self._done, self._measured_at = 0, time.monotonic()

    def owe(self) -> None:
        """One result more that is to be stored."""
        self._unrecorded += 1

    def settled(self, count: int) -> None:
        """So many results are stored, or given up."""
        self._unrecorded -= count
        self._room.set()


@dataclass
class Desk:
    """`active` are the mailings this process is sending just now, each by one job; `jobs` is how many it may run."""

    sessions: Sessions
    gateway: Gateway
    gate: Gate
    policy: Policy
    timeout_s: float
    jobs: int
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    active: set[int] = field(default_factory=set)
    tallies: Tallies = field(default_factory=Tallies)
    ticks: Ticks = ticks

    def __post_init__(self) -> None:
        self.lease_s = lease_for(self.timeout_s)
        self.capacity = Capacity(self.gateway.concurrency)
        self.slots = asyncio.Semaphore(self.gateway.concurrency)
        self.recording = Recording(self.sessions, self.tallies, self.stopping, settled=self.capacity.settled)

    @property
    def crowded(self) -> bool:
        """Others wait for a job slot: yield after a slice."""
        return len(self.active) >= self.jobs // 2
