"""The life of a message: one table, enforced by a trigger of the schema (a test compares the two).

pending ── claim ──► sending ── accepted ──► sent
▲                    │  not sent, throttled, soft refusal, ambiguous with `retry` ──► pending
│                    │  refused ──► failed          ambiguous with `hold` ──► unknown
└────────────────────┘  the end reached ──► expired, or unknown where an attempt may have arrived
pending ── cancel, edit, opt-out ──► cancelled, or unknown where an attempt may have arrived
pending, unknown ── an acceptance that came after its lease had run out ──► sent
"""

from enum import StrEnum


class Status(StrEnum):
    pending = "pending"
    sending = "sending"
    sent = "sent"
    failed = "failed"
    cancelled = "cancelled"
    expired = "expired"
    unknown = "unknown"


# Out of a final state leads only somebody's explicit act: an edit takes back what an edit or the end had decided,
# an operator sends a failed or unknown message again, or says what became of an unknown one.
TRANSITIONS: dict[Status, frozenset[Status]] = {
    Status.pending: frozenset({Status.sending, Status.sent, Status.cancelled, Status.expired, Status.unknown}),
    Status.sending: frozenset(Status) - {Status.sending},
    Status.sent: frozenset(),
    Status.failed: frozenset({Status.pending}),
    Status.cancelled: frozenset({Status.pending}),
    Status.expired: frozenset({Status.pending}),
    Status.unknown: frozenset({Status.pending, Status.sent, Status.failed}),
}
