"""What a report tells, as plain values."""

from datetime import datetime

import msgspec
from msgspec import Struct

from mailing.reports.schedule import Day


class DayCounts(Struct, frozen=True):
    """Messages that reached this state within the day and are still in it."""

    sent: int = 0
    failed: int = 0
    expired: int = 0
    unknown: int = 0
    cancelled: int = 0

    def __add__(self, other: "DayCounts") -> "DayCounts":
        return DayCounts(
            *(a + b for a, b in zip(msgspec.structs.astuple(self), msgspec.structs.astuple(other), strict=True))
        )

    @property
    def not_sent(self) -> int:
        """Those with a reason worth reading; a cancellation was somebody's wish."""
        return self.failed + self.expired + self.unknown

    @property
    def messages(self) -> int:
        return self.sent + self.not_sent + self.cancelled


class StatusCounts(Struct, frozen=True):
    """The counters at the moment of the report: planned is the sum of all others."""

    planned: int = 0
    pending: int = 0
    sending: int = 0
    sent: int = 0
    failed: int = 0
    expired: int = 0
    unknown: int = 0
    cancelled: int = 0


class MailingFigures(Struct, frozen=True):
    """`text` is how the mailing's text begins; `status` is the mailing's, or `deleted`."""

    id: int
    text: str
    status: str
    ended: DayCounts
    totals: StatusCounts


class Reason(Struct, frozen=True):
    """`reason` is empty where none was recorded."""

    status: str
    reason: str
    messages: int


class Hour(Struct, frozen=True):
    """The day's hour `number`, from 0: hours pass as on a stopwatch, so a clock change makes a day of 23 or 25."""

    number: int
    sent: int
    not_sent: int


class Figures(Struct, frozen=True):
    """One snapshot of the database, taken at `taken_at`.

    `mailings` are those with a message that ended within the day, those launched in it, and those under way now;
    `totals` is the sum over every mailing there ever was. `reasons` are the most frequent ones, most first.
    `hours` are those in which a message ended, without cancellations.
    """

    day: Day
    taken_at: datetime
    mailings: list[MailingFigures]
    totals: StatusCounts
    reasons: list[Reason]
    hours: list[Hour] = []

    @property
    def ended(self) -> DayCounts:
        return sum((mailing.ended for mailing in self.mailings), DayCounts())

    @property
    def busiest_hour(self) -> int:
        """How many messages ended in it; 0 when none ended in any."""
        return max((hour.sent + hour.not_sent for hour in self.hours), default=0)

    @property
    def other_reasons(self) -> int:
        """Troubled messages whose reason is not among the most frequent."""
        return self.ended.not_sent - sum(reason.messages for reason in self.reasons)
