"""The rate limiter that all workers share: it grants slots, instants at which one call each may begin."""

from collections import deque
from datetime import datetime
from typing import Final

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.database.clock import DatabaseClock
from mailing.database.monotonic import Ticks, ticks
from mailing.database.rows import first_as
from mailing.gateway.row import ONLY_ROW

MAX_AHEAD_S = 1.0  # slots are granted no further ahead, so a lower rate takes effect within that time
SLACK_S = 0.05  # a call may begin this much before or after its slot without exceeding the rate in any second
GRANT_SHARE_S = 0.2  # a grant is this part of a second's slots
MIN_RATE = 1e-6  # a lower rate counts as this one: a call in 11 days


class SlotGrant(msgspec.Struct, frozen=True):
    """`count` slots, `spacing_s` apart; the last is `spacing_s` before `until`. `now` is database time."""

    now: datetime
    until: datetime
    spacing_s: float
    count: int


_SPACING_S = f"(1 + {SLACK_S}) / greatest(w.rate, {MIN_RATE})"

# The last slot that may have been granted at this rate. One twice as far ahead was granted before the clock went back,
# or at a lower rate. The slots that other workers still hold lie before this.
_LAST_SLOT = f"make_interval(secs => {MAX_AHEAD_S} + greatest((1 + {SLACK_S}) * {GRANT_SHARE_S}, {_SPACING_S}))"
_TOO_FAR_AHEAD = f"w.next_slot_at > clock_timestamp() + 2 * {_LAST_SLOT}"

# As many slots as the rate has in GRANT_SHARE_S, at least one. Any `rate` + 1 slots in a row span 1 s + SLACK_S.
_TAKE_SLOTS = text(f"""
    UPDATE gateway w SET next_slot_at = CASE WHEN {_TOO_FAR_AHEAD} THEN clock_timestamp() + {_LAST_SLOT}
            ELSE greatest(w.next_slot_at, clock_timestamp()) END
        + make_interval(secs => {_SPACING_S}
            * least(CAST(:most AS int), greatest(1, floor(w.rate * {GRANT_SHARE_S}))))
    WHERE w.{ONLY_ROW} AND w.rate > 0
        AND (w.next_slot_at < clock_timestamp() + interval '{MAX_AHEAD_S} s' OR {_TOO_FAR_AHEAD})
    RETURNING clock_timestamp() AS now, w.next_slot_at AS until, {_SPACING_S} AS spacing_s,
        CAST(least(CAST(:most AS int), greatest(1, floor(w.rate * {GRANT_SHARE_S}))) AS int) AS count
""")  # noqa: S608 - composed from constants of this module


async def take_slots(session: AsyncSession, most: int) -> SlotGrant | None:
    """Return None if all slots of the next MAX_AHEAD_S are granted, or the limit was lifted."""
    return first_as(SlotGrant, await session.execute(_TAKE_SLOTS, {"most": most}))


MAX_CLOCK_AGE_S: Final = 60.0
MIN_TOLERANCE_S: Final = 0.005
MIN_STEP_S: Final = 0.1  # a clock that is only slewed drifts less in MAX_CLOCK_AGE_S


class RateLimiter:
    """The slots that this process holds. `reserved` are the ids of claimed messages that still need one."""

    def __init__(self, ticks: Ticks = ticks) -> None:
        self._ticks = ticks
        self.reserved: set[int] = set()
        self._slots: deque[float] = deque()
        self._clock: DatabaseClock  # observed before anything that needs it
        self._round_trip_s = float("inf")

    @property
    def tolerance_s(self) -> float:
        """How much later than its slot a call may begin. Our clock may be ahead by up to the round trip's time."""
        return max(MIN_TOLERANCE_S, SLACK_S - self._round_trip_s)

    def now(self) -> datetime:
        """Return database time, from the lowest-latency clock reading of the last minute."""
        return self._clock.now()

    def instant(self, local: float) -> datetime:
        """Return the database time of a `ticks` reading, from the same clock reading as `now`."""
        return self._clock.instant(local)

    def observe_clock(self, clock: DatabaseClock) -> None:
        round_trip_s = self._ticks() - clock.at
        if (
            round_trip_s < self._round_trip_s
            or clock.at - self._clock.at > MAX_CLOCK_AGE_S
            or self._has_stepped(clock, within_s=round_trip_s + self._round_trip_s)
        ):
            self._clock, self._round_trip_s = clock, round_trip_s

    def _has_stepped(self, clock: DatabaseClock, *, within_s: float) -> bool:
        """Whether two readings differ by more than both round trips took: then the clock was set."""
        apart_s = abs((clock.read - self._clock.instant(clock.at)).total_seconds())
        return apart_s > within_s + MIN_STEP_S

    def add(self, grant: SlotGrant) -> None:
        until = self._clock.at_local(grant.until)
        self._slots.extend(until - left * grant.spacing_s for left in range(grant.count, 0, -1))

    def next(self) -> float | None:
        """Take the next slot that is not over."""
        self._drop_late()
        return self._slots.popleft() if self._slots else None

    def available(self) -> int:
        """Count the slots that are not reserved. Below 0 if some passed unused."""
        self._drop_late()
        return len(self._slots) - len(self.reserved)

    def _drop_late(self) -> None:
        over = self._ticks() - self.tolerance_s
        while self._slots and self._slots[0] < over:
            self._slots.popleft()
