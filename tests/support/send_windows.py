"""A send window of tests: open at any hour until its end."""

from datetime import UTC, datetime, timedelta

from mailing.messages.rescheduling import SendWindow
from mailing.reasons.codes import Reason, ReasonCode

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
END = NOW + timedelta(hours=1)


def always_open(not_before: datetime) -> SendWindow:
    if not_before >= END:
        return SendWindow("UTC", None, None, Reason(ReasonCode.end_reached))
    return SendWindow("UTC", not_before, END, None)
