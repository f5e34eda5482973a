"""The database's clock, as a process knows it between two statements."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from mailing.database.monotonic import Ticks, ticks


@dataclass(frozen=True)
class DatabaseClock:
    """The database's clock between two statements: a process's own clock may be an hour off.

    `at` is the process's time (`ticks`) before `read` was asked for. So it runs ahead by no more than one round trip,
    never behind, and nothing begins too late.
    """

    read: datetime
    at: float
    ticks: Ticks = ticks

    def now(self) -> datetime:
        return self.instant(self.ticks())

    def instant(self, local: float) -> datetime:
        """Of a time of this process."""
        return self.read + timedelta(seconds=local - self.at)

    def at_local(self, instant: datetime) -> float:
        """The process's time of an instant."""
        return self.at + (instant - self.read).total_seconds()
