"""The life of a message: one table, enforced by a trigger of the schema (a test compares the two).

pending ── claim ──► sending ── accepted ──► sent
▲                    │  not sent, throttled, soft refusal, ambiguous with `retry` ──► pending
│                    │  refused ──► failed          ambiguous with `hold` ──► unknown
└────────────────────┘  the end reached ──► expired, or unknown where an attempt may have arrived
pending ── cancel, edit, opt-out ──► cancelled, or unknown where an attempt may have arrived
pending, unknown ── an acceptance that came after its lease had run out ──► sent
"""

from enum import StrEnum


class MessageStatus(StrEnum):
    pending = "pending"
    sending = "sending"
    sent = "sent"
    failed = "failed"
    cancelled = "cancelled"
    expired = "expired"
    unknown = "unknown"


# Out of a final state leads only somebody's explicit act: an edit takes back what an edit or the end had decided,
# an operator sends a failed or unknown message again, or says what became of an unknown one.
TRANSITIONS: dict[MessageStatus, frozenset[MessageStatus]] = {
    MessageStatus.pending: frozenset(
        {
            MessageStatus.sending,
            MessageStatus.sent,
            MessageStatus.cancelled,
            MessageStatus.expired,
            MessageStatus.unknown,
        }
    ),
    MessageStatus.sending: frozenset(MessageStatus) - {MessageStatus.sending},
    MessageStatus.sent: frozenset(),
    MessageStatus.failed: frozenset({MessageStatus.pending}),
    MessageStatus.cancelled: frozenset({MessageStatus.pending}),
    MessageStatus.expired: frozenset({MessageStatus.pending}),
    MessageStatus.unknown: frozenset({MessageStatus.pending, MessageStatus.sent, MessageStatus.failed}),
}
