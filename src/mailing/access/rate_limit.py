"""The rate limit of each API key (GCRA), counted in the database for all processes together.

A process reserves requests in batches, a tenth of a second's worth, and grants them from memory: one statement for
many requests. Reserved requests that are not used expire. A key never exceeds its rate in the long run. A burst may be
BURST_S seconds' worth, plus the requests that processes have reserved.
"""

import asyncio
import time
from collections import defaultdict

from sqlalchemy import text

from mailing.database.engine import Sessions, transaction
from mailing.database.errors import transient
from mailing.errors import TooMany

BURST_S = 2
RESERVATIONS_PER_S = 10
MAX_AHEAD_S = 10  # more than the clocks of any two transactions differ
CACHE_S = 10  # of reserved requests that were not granted

# By the primary key. `tat` is the time up to which requests are granted. It never lags more than a burst behind the
# clock. A `tat` far ahead of the clock was written before the clock went back.
_RESERVE = text("""
    INSERT INTO api_rate_limit AS a (caller, tat)
    VALUES (:caller, now() - make_interval(secs => :burst) + make_interval(secs => :worth))
    ON CONFLICT (caller) DO UPDATE
        SET tat = make_interval(secs => :worth) + CASE
            WHEN a.tat > now() + make_interval(secs => :most) THEN now() - make_interval(secs => :burst)
            ELSE greatest(a.tat, now() - make_interval(secs => :burst)) END
        WHERE a.tat + make_interval(secs => :worth) <= now()
            OR a.tat > now() + make_interval(secs => :most)
    RETURNING true
""")


class RateLimiter:
    """The requests that one process has reserved for each key. `rate` is requests per second for a key; 0: no limit."""

    def __init__(self, sessions: Sessions, rate: int) -> None:
        self._sessions = sessions
        self._rate = rate
        self._held: defaultdict[str, _Reserved] = defaultdict(_Reserved)

    async def take(self, caller: str) -> None:
        """Raise TooMany over the limit. If the database is unavailable, nothing is counted and the request proceeds."""
        if not self._rate:
            return
        held = self._held[caller]
        if held.empty():
            async with held.drawing:
                if held.empty() and time.monotonic() >= held.refused_until:
                    await self._reserve(caller, held)
        if held.empty():
            raise TooMany(f"This key may make {self._rate} requests a second; try again in a second.", wait_s=1)
        held.left -= 1

    async def _reserve(self, caller: str, held: "_Reserved") -> None:
        count = -(-self._rate // RESERVATIONS_PER_S)
        values = {"caller": caller, "burst": BURST_S, "worth": count / self._rate, "most": MAX_AHEAD_S}
        try:
            async with transaction(self._sessions) as session:
                drawn = (await session.execute(_RESERVE, values)).first() is not None
        except transient():  # away, or open for reading alone
            drawn = True
        now = time.monotonic()
        held.left, held.kept_until = (count, now + CACHE_S) if drawn else (0, 0.0)
        held.refused_until = 0.0 if drawn else now + count / self._rate


class _Reserved:
    def __init__(self) -> None:
        self.drawing = asyncio.Lock()
        self.left = 0
        self.kept_until = 0.0
        self.refused_until = 0.0

    def empty(self) -> bool:
        return self.left <= 0 or time.monotonic() > self.kept_until
