from msgspec import Struct

from mailing.mailings.states import MailingStatus
from mailing.messages.schemas import MessageOut
from mailing.web.pagination import Page


class Counts(Struct):
    """Messages by status; `planned` is their sum."""

    planned: int
    sent: int
    pending: int
    sending: int
    failed: int
    cancelled: int
    expired: int
    unknown: int


class MailingLine(Counts):
    """One mailing in the overall statistics. `launched`: its start has come and it was planned."""

    mailing_id: int
    status: MailingStatus
    launched: bool


class Statistics(Struct):
    """`mailings` counts those not deleted; `messages` has every message ever planned, of deleted mailings too."""

    mailings: int
    messages: Counts
    items: list[MailingLine]
    next_cursor: str | None


class MailingStatistics(Struct):
    mailing_id: int
    status: MailingStatus
    launched: bool
    counts: Counts
    messages: Page[MessageOut]
