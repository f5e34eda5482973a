"""How many requests a key may make: counted in the database, for all processes together.

A process draws requests by the tenth of a second's worth and gives them out from memory, so a draw costs one statement
for many requests. What it does not give out is lost after a while. No key ever gets more than its rate in the long run;
in a moment it may get BURST_S seconds' worth, and what processes hold of it.
"""

import asyncio
import time
from collections import defaultdict
from typing import Any

from litestar.connection import ASGIConnection
from sqlalchemy import text

from mailing.database.engine import Sessions, transaction
from mailing.database.errors import transient
from mailing.errors import TooMany

BURST_S = 2
DRAWS_A_SECOND = 10
MAX_AHEAD_S = 10  # more than any two requests' transactions lie apart
CACHE_S = 10  # what was drawn and not given out

# By the primary key. Requests up to `tat` are given away; it never lags more than a burst behind the clock. Far
# ahead of it is only what was written before the clock went back.
_DRAW = text("""
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
    """What one process holds of each key's allowance. `rate` is requests a second for a key; 0: no limit."""

    def __init__(self, sessions: Sessions, rate: int) -> None:
        self._sessions = sessions
        self._rate = rate
        self._held: defaultdict[str, _Held] = defaultdict(_Held)

    async def take(self, caller: str) -> None:
        """Raises TooMany. Without a database nothing is counted: the request finds that out itself, if it matters."""
        if not self._rate:
            return
        held = self._held[caller]
        async with held.drawing:
            if held.empty() and time.monotonic() >= held.refused_until:
                await self._draw(caller, held)
        if held.empty():
            raise TooMany(f"This key may make {self._rate} requests a second; try again in a second.", wait_s=1)
        held.left -= 1

    async def _draw(self, caller: str, held: "_Held") -> None:
        count = -(-self._rate // DRAWS_A_SECOND)
        values = {"caller": caller, "burst": BURST_S, "worth": count / self._rate, "most": MAX_AHEAD_S}
        try:
            async with transaction(self._sessions) as session:
                drawn = (await session.execute(_DRAW, values)).first() is not None
        except transient():  # away, or open for reading alone
            drawn = True
        now = time.monotonic()
        held.left, held.kept_until = (count, now + CACHE_S) if drawn else (0, 0.0)
        held.refused_until = 0.0 if drawn else now + count / self._rate


class _Held:
    def __init__(self) -> None:
        self.drawing = asyncio.Lock()
        self.left = 0
        self.kept_until = 0.0
        self.refused_until = 0.0

    def empty(self) -> bool:
        return self.left <= 0 or time.monotonic() > self.kept_until


async def enforce_rate_limit(connection: ASGIConnection[Any, Any, Any, Any]) -> None:
    """After `require_key`, which finds out who asks."""
    await connection.app.state.allowance.take(str(connection.scope["user"]))
