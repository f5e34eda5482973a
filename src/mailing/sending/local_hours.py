"""A mailing's local hours by this process's time zone rules, checked after the claim."""

from collections.abc import Iterable
from datetime import datetime

from msgspec.structs import replace

from mailing.mailings.models import Mailing
from mailing.messages.claim import ClaimedMessage
from mailing.messages.rescheduling import SendWindow


class LocalHours:
    """Computes each time zone's present window once. Costs nothing for a mailing without hours."""

    def __init__(self, mailing: Mailing) -> None:
        self.plan_revision = mailing.plan_revision
        self._mailing = mailing
        self._windows: dict[str, SendWindow] = {}

    def divide(self, claimed: Iterable[ClaimedMessage]) -> tuple[list[ClaimedMessage], list[int]]:
        """Return the messages that may be called now, and the ids of the others.

        No message keeps a `closes_at` that is later than by these rules.
        """
        if self._mailing.window is None:
            return list(claimed), []
        kept, closed = [], []
        for message in claimed:
            closes_at = self._closes_at(message.timezone, message.claimed_at)
            if closes_at is None:
                closed.append(message.id)
            else:
                kept.append(message if message.closes_at <= closes_at else replace(message, closes_at=closes_at))
        return kept, closed

    def _closes_at(self, timezone: str, now: datetime) -> datetime | None:
        """Return when the zone's present window closes; None: it is closed now."""
        window = self._windows.get(timezone)
        if window is None or not _holds(window, now):
            window = self._mailing.next_window(timezone, now)
            self._windows[timezone] = window
        return window.closes_at if _holds(window, now) else None


def _holds(window: SendWindow, now: datetime) -> bool:
    return window.opens_at is not None and window.closes_at is not None and window.opens_at <= now < window.closes_at
