"""Workers' counters for `/metrics`, kept in memory and added to the totals in the database every few seconds.

Totals are in the database because workers come and go: their counts stay, and one page shows them all.
"""

import asyncio
from bisect import bisect_left
from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.database.engine import Sessions, transaction
from mailing.observability import failures
from mailing.observability.log import get

logger = get(__name__)

FLUSH_INTERVAL_S: Final = 5.0  # the counts that a killed worker loses

CALLS: Final = "gateway_calls"  # by outcome
CALL_SECONDS: Final = "gateway_call_seconds"  # the sum
CALL_BUCKETS: Final = "gateway_call_seconds_bucket"  # by upper bound, each call in one
RATE_LIMIT_WAIT_S: Final = "rate_limit_wait_seconds"  # by stage: claim, call
POSTPONED: Final = "postponed"  # by reason
RECOVERED: Final = "recovered"  # by kind
STALE_RESULTS: Final = "stale_results"


class Buckets:
    """The buckets of a histogram. `labels` are their upper bounds."""

    def __init__(self, *bounds: float) -> None:
        self._bounds = bounds
        self.labels = (*map(str, bounds), "+Inf")

    def of(self, value: float) -> str:
        return self.labels[bisect_left(self._bounds, value)]


CALL_S: Final = Buckets(0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

Counts = dict[tuple[str, str], float]


class WorkerCounters:
    """Counters of one process. `run` them beside the work."""

    def __init__(self) -> None:
        self.counted: Counts = {}  # what the next flush adds, by name and label

    def add(self, name: str, label: str = "", *, value: float = 1) -> None:
        if value:
            self.counted[name, label] = self.counted.get((name, label), 0) + value

    def observe_call(self, outcome: str, seconds: float) -> None:
        self.add(CALLS, outcome)
        self.add(CALL_SECONDS, value=seconds)
        self.add(CALL_BUCKETS, CALL_S.of(seconds))

    async def run(self, sessions: Sessions) -> None:
        while True:
            await asyncio.sleep(FLUSH_INTERVAL_S)
            await self.flush(sessions)

    async def flush(self, sessions: Sessions) -> None:
        """Add the counts to the totals. If that fails or is cancelled, they are kept for the next flush."""
        counted, self.counted = self.counted, {}
        if not counted:
            return
        try:
            rows = [{"name": name, "label": label, "value": value} for (name, label), value in sorted(counted.items())]
            async with transaction(sessions) as session:
                await session.execute(_ADD, rows)
        except BaseException as error:
            for (name, label), value in counted.items():
                self.add(name, label, value=value)
            if not isinstance(error, Exception):
                raise
            failures.log(logger, "counter flush failed, will retry", error)


# A dozen rows by primary key, locked in its order, so that two workers cannot deadlock.
_ADD = text("""
    INSERT INTO worker_counter AS t (name, label, value) VALUES (:name, :label, :value)
    ON CONFLICT (name, label) DO UPDATE SET value = t.value + excluded.value
""")


async def totals(session: AsyncSession) -> Counts:
    rows = await session.execute(text("SELECT name, label, value FROM worker_counter"))
    return {(name, label): value for name, label, value in rows}
