"""When one zone may be sent to within a mailing, as the statements of `messages.openings` take it."""

from datetime import datetime

from mailing.mailings.window import LocalWindow, next_slot
from mailing.messages.rescheduling import SendWindow
from mailing.timezones import known_zone, zone_named


def opening(timezone: str, window: LocalWindow | None, *, not_before: datetime, before: datetime) -> SendWindow:
    """A zone that is not known (it was on input; a release dropped it) opens never: nothing is sent by guess."""
    if window is not None and not known_zone(timezone):
        return SendWindow(timezone, None, None, f"the local hours of {timezone} are not known")
    zone = zone_named(timezone) if window else zone_named("UTC")
    slot = next_slot(window, zone, not_before=not_before, before=before)
    if slot:
        return SendWindow(timezone, slot.opens_at, slot.closes_at, None)
    if window is None or not_before >= before:
        return SendWindow(timezone, None, None, "the mailing's end was reached")
    hours = f"{window.start:%H:%M}-{window.end:%H:%M}"
    return SendWindow(timezone, None, None, f"no opening of {hours} in {timezone} before the mailing's end")
