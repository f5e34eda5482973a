from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.database.monotonic import Ticks, ticks


@dataclass(frozen=True)
class DatabaseClock:
    """The database's time between two readings, because the process's own clock may be an hour off.

    `at` is the process's time (`ticks`) just before the reading `read` was requested. So it runs ahead by at most one
    round trip and never behind, and nothing starts too late.
    """

    read: datetime
    at: float
    ticks: Ticks = ticks

    def now(self) -> datetime:
        return self.instant(self.ticks())

    def instant(self, local: float) -> datetime:
        """Convert a time of this process."""
        return self.read + timedelta(seconds=local - self.at)

    def at_local(self, instant: datetime) -> float:
        """Convert an instant to a time of this process."""
        return self.at + (instant - self.read).total_seconds()


async def database_now(session: AsyncSession) -> datetime:
    """Return the time of the database: the one clock by which messages become due, on every machine."""
    return (await session.execute(select(func.now()))).scalar_one()
