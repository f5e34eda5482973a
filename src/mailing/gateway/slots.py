"""The slots of a rate limit: instants of this process's clock at which one call each may begin."""

from collections import deque
from datetime import datetime
from typing import Final

from mailing.db import DatabaseClock
from mailing.gateway.repository import SLACK_S, Granted
from mailing.ticks import Ticks, ticks

CLOCK_KEPT_S: Final = 60.0
LEAST_LATE_S: Final = 0.005
STEP_S: Final = 0.1  # a clock that is only slewed drifts less in CLOCK_KEPT_S


class Slots:
    """`owed` holds the ids of claimed messages that still have to take a slot."""

    def __init__(self, ticks: Ticks = ticks) -> None:
        self._ticks = ticks
        self.owed: set[int] = set()
        self._instants: deque[float] = deque()
        self._clock: DatabaseClock | None = None
        self._round_trip_s = float("inf")

    @property
    def late_s(self) -> float:
        """How much later than its slot a call may begin; our clock may be ahead by as much as the round trip took."""
        return max(LEAST_LATE_S, SLACK_S - self._round_trip_s)

    def now(self) -> datetime:
        """The database's clock, by the reading of the last minute that took least."""
        return self._heard().now()

    def hear(self, clock: DatabaseClock) -> None:
        round_trip_s = self._ticks() - clock.at
        known = self._clock
        if (
            known is None
            or round_trip_s < self._round_trip_s
            or clock.at - known.at > CLOCK_KEPT_S
            or self._has_stepped(known, clock, within_s=round_trip_s + self._round_trip_s)
        ):
            self._clock, self._round_trip_s = clock, round_trip_s

    def _has_stepped(self, known: DatabaseClock, clock: DatabaseClock, *, within_s: float) -> bool:
        """Two readings differ by no more than both round trips took; beyond that somebody has set the clock."""
        apart_s = abs((clock.read - known.instant(clock.at)).total_seconds())
        return apart_s > within_s + STEP_S

    def add(self, granted: Granted) -> None:
        until = self._heard().at_local(granted.until)
        self._instants.extend(until - left * granted.spacing_s for left in range(granted.count, 0, -1))

    def pop(self) -> float | None:
        """The next one that is not over."""
        self._drop_late()
        return self._instants.popleft() if self._instants else None

    def free(self) -> int:
        """How many there are beside those that are owed; below 0 where some were lost."""
        self._drop_late()
        return len(self._instants) - len(self.owed)

    def _drop_late(self) -> None:
        over = self._ticks() - self.late_s
        while self._instants and self._instants[0] < over:
            self._instants.popleft()

    def _heard(self) -> DatabaseClock:
        if self._clock is None:
            raise RuntimeError("the database's clock was not read yet")
        return self._clock
