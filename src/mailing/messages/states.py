"""The life of a message, which ARCHITECTURE.md draws: one table, enforced by a trigger (a test compares the two)."""

from enum import StrEnum


class MessageStatus(StrEnum):
    pending = "pending"
    sending = "sending"
    sent = "sent"
    failed = "failed"
    cancelled = "cancelled"
    expired = "expired"
    unknown = "unknown"


class WaitReason(StrEnum):
    """What an unsent message waits for."""

    window = "window"
    retry = "retry"
    rate = "rate"
    breaker = "breaker"
    pause = "pause"
    start = "start"


# Only an explicit act leads out of a final status: an edit takes back what an earlier edit or the end had decided; an
# operator sends a failed or unknown message again, or states what became of an unknown one.
TRANSITIONS: dict[MessageStatus, frozenset[MessageStatus]] = {
    MessageStatus.pending: frozenset(MessageStatus) - {MessageStatus.pending, MessageStatus.failed},
    MessageStatus.sending: frozenset(MessageStatus) - {MessageStatus.sending},
    MessageStatus.sent: frozenset(),
    MessageStatus.failed: frozenset({MessageStatus.pending}),
    MessageStatus.cancelled: frozenset({MessageStatus.pending}),
    MessageStatus.expired: frozenset({MessageStatus.pending}),
    MessageStatus.unknown: frozenset({MessageStatus.pending, MessageStatus.sent, MessageStatus.failed}),
}
