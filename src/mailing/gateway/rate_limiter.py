"""The rate limiter that all workers share: slots are instants at which one call each may start."""

from collections import deque
from datetime import datetime
from typing import Final

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.database.clock import DatabaseClock
from mailing.database.monotonic import Ticks, ticks
from mailing.gateway.row import ONLY_ROW

MAX_AHEAD_S = 1.0  # no slot further ahead is granted, so a lower rate takes effect within this time
SLACK_S = 0.05  # a call may start this far from its slot without exceeding the rate in any second
GRANT_SHARE_S = 0.2  # share of one second's slots granted to a worker at a time


class SlotGrant(msgspec.Struct, frozen=True):
    """`count` slots, `spacing_s` apart, the last one that long before `until`; `now` as in GatewayState."""

    now: datetime
    until: datetime
    spacing_s: float
    count: int


# The last slot that may have been granted at this rate. One twice as far ahead is from before the clock went back, or
# from a lower rate. Slots that other workers still hold are before this.
_LAST_SLOT = (
    f"make_interval(secs => {MAX_AHEAD_S} + (1 + {SLACK_S}) * greatest({GRANT_SHARE_S}, 1 / nullif(w.rate, 0)))"
)
_ASTRAY = f"w.next_slot_at > clock_timestamp() + 2 * {_LAST_SLOT}"

# As many slots as the rate has in GRANT_SHARE_S, at least one. Any `rate` + 1 slots in a row span 1 s + SLACK_S.
_TAKE_SLOTS = text(f"""
    UPDATE gateway w SET next_slot_at = CASE WHEN {_ASTRAY} THEN clock_timestamp() + {_LAST_SLOT}
            ELSE greatest(w.next_slot_at, clock_timestamp()) END
        + make_interval(secs => (1 + {SLACK_S}) / w.rate
            * least(CAST(:most AS int), greatest(1, floor(w.rate * {GRANT_SHARE_S}))))
    WHERE w.{ONLY_ROW} AND w.rate > 0 AND (w.next_slot_at < clock_timestamp() + interval '{MAX_AHEAD_S} s' OR {_ASTRAY})
    RETURNING clock_timestamp(), w.next_slot_at, (1 + {SLACK_S}) / w.rate,
        CAST(least(CAST(:most AS int), greatest(1, floor(w.rate * {GRANT_SHARE_S}))) AS int)
""")  # noqa: S608 - composed from constants of this module


async def take_slots(session: AsyncSession, most: int) -> SlotGrant | None:
    """Take slots. None: all slots of the next MAX_AHEAD_S are granted, or the limit was removed."""
    row = (await session.execute(_TAKE_SLOTS, {"most": most})).first()
    return SlotGrant(*row) if row else None


MAX_CLOCK_AGE_S: Final = 60.0
MIN_LATE_S: Final = 0.005
STEP_S: Final = 0.1  # a slewed clock drifts less in MAX_CLOCK_AGE_S


class RateLimiter:
    """`reserved` are the ids of claimed messages that have not taken a slot yet."""

    def __init__(self, ticks: Ticks = ticks) -> None:
        self._ticks = ticks
        self.owed: set[int] = set()
        self._instants: deque[float] = deque()
        self._clock: DatabaseClock | None = None
        self._round_trip_s = float("inf")

    @property
    def late_s(self) -> float:
        """The delay after its slot within which a call may start. Our clock may be ahead by the round trip."""
        return max(MIN_LATE_S, SLACK_S - self._round_trip_s)

    def now(self) -> datetime:
        """Return database time, from the lowest-latency clock reading of the last minute."""
        return self._heard().now()

    def instant(self, local: float) -> datetime:
        """Database time of a `ticks` reading, by the same clock reading as `now`."""
        return self._heard().instant(local)

    def hear(self, clock: DatabaseClock) -> None:
        round_trip_s = self._ticks() - clock.at
        known = self._clock
        if (
            known is None
            or round_trip_s < self._round_trip_s
            or clock.at - known.at > MAX_CLOCK_AGE_S
            or self._has_stepped(known, clock, within_s=round_trip_s + self._round_trip_s)
        ):
            self._clock, self._round_trip_s = clock, round_trip_s

    def _has_stepped(self, known: DatabaseClock, clock: DatabaseClock, *, within_s: float) -> bool:
        """Whether the clock was set: two readings differ by more than both round trips."""
        apart_s = abs((clock.read - known.instant(clock.at)).total_seconds())
        return apart_s > within_s + STEP_S

    def add(self, granted: SlotGrant) -> None:
        until = self._heard().at_local(granted.until)
        self._instants.extend(until - left * granted.spacing_s for left in range(granted.count, 0, -1))

    def pop(self) -> float | None:
        """Return the next slot that has not passed."""
        self._drop_late()
        return self._instants.popleft() if self._instants else None

    def free(self) -> int:
        """Return the number of slots beyond the reserved ones, negative if some were lost."""
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
