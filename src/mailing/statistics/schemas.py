from msgspec import Struct

from mailing.mailings.counts import Counts
from mailing.mailings.states import MailingStatus
from mailing.messages.schemas import MessageOut
from mailing.web.pagination import Page


class DeliveryCounts(Struct):
    """Sent messages by what the provider has reported. `awaited`: it has reported nothing final yet."""

    delivered: int
    undelivered: int
    awaited: int


class MailingLine(Counts):
    """One mailing in the statistics. `launched`: its start has come and its plan has begun.

    `delivery` is null if the provider sends no receipts.
    """

    mailing_id: int
    status: MailingStatus
    launched: bool
    delivery: DeliveryCounts | None


class Statistics(Struct):
    """Totals. `mailings` counts those not deleted; `messages` includes the messages of deleted mailings."""

    mailings: int
    messages: Counts
    items: list[MailingLine]
    next_cursor: str | None


class MailingStatistics(Struct):
    mailing_id: int
    status: MailingStatus
    launched: bool
    counts: Counts
    delivery: DeliveryCounts | None
    messages: Page[MessageOut]
