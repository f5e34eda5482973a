"""The figures of a report, as plain values."""

from datetime import datetime

import msgspec
from msgspec import Struct

from mailing.mailings.counts import Counts
from mailing.reasons.codes import Reason
from mailing.reports.schedule import Day


class DayCounts(Struct, frozen=True):
    """Messages that ended in each state within the day and are still in it."""

    sent: int = 0
    failed: int = 0
    expired: int = 0
    unknown: int = 0
    cancelled: int = 0

    @property
    def not_sent(self) -> int:
        """Messages that were not sent for a reason worth reading; a cancellation was a user's decision."""
        return self.failed + self.expired + self.unknown

    @property
    def messages(self) -> int:
        return self.sent + self.not_sent + self.cancelled


class MailingFigures(Struct, frozen=True):
    """A mailing: the beginning of its text, its status or `deleted`, the day's counts and those of this moment."""

    id: int
    text: str
    status: str
    ended: DayCounts
    totals: Counts


class ReasonCount(Struct, frozen=True):
    """Messages that ended in the same status for the same reason; `reason` is None if none was recorded."""

    status: str
    reason: Reason | None
    messages: int


class Hour(Struct, frozen=True):
    """Messages of the day's hour `number`, from 0, in elapsed time: a clock change makes a day of 23 or 25 hours."""

    number: int
    sent: int
    not_sent: int


class DayDelivery(Struct, frozen=True):
    """The provider's reports so far about the messages sent within the day."""

    sent: int
    delivered: int
    undelivered: int

    @property
    def awaited(self) -> int:
        return self.sent - self.delivered - self.undelivered


class Figures(Struct, frozen=True):
    """One snapshot of the database, taken at `taken_at`.

    `mailings` had a message that ended within the day, or started in it, or are running now. `totals` is the sum over
    all mailings, deleted ones included. `reasons` are the most frequent ones, most frequent first. `hours` are those in
    which a message ended, cancellations left out. `delivery` is None if the provider sends no receipts.
    """

    day: Day
    taken_at: datetime
    mailings: list[MailingFigures]
    totals: Counts
    reasons: list[ReasonCount]
    hours: list[Hour] = []
    delivery: DayDelivery | None = None

    @property
    def ended(self) -> DayCounts:
        ended = zip(*(msgspec.structs.astuple(mailing.ended) for mailing in self.mailings), strict=True)
        return DayCounts(*map(sum, ended))

    @property
    def busiest_hour(self) -> int:
        """The messages that ended in the busiest hour; 0 without any."""
        return max((hour.sent + hour.not_sent for hour in self.hours), default=0)

    @property
    def other_reasons(self) -> int:
        """Messages not sent whose reason is not among the most frequent ones."""
        return self.ended.not_sent - sum(reason.messages for reason in self.reasons)
