"""Counters of receipts and replies, added to the totals that `/metrics` shows."""

from typing import Final

from mailing.observability.counters import WorkerCounters

RECEIPTS: Final = "receipts"  # by result
REPLIES: Final = "replies"  # by result
DELAY_SECONDS: Final = "receipt_delay_seconds"  # the sum
DELAY_BUCKETS: Final = "receipt_delay_seconds_bucket"  # by upper bound, each receipt in one

RESULTS: Final = (
    "delivered",
    "undelivered",
    "accepted",
    "stale",
    "unknown",
    "unlisted",
    "forged",
    "malformed",
    "contradiction",
)
REPLY_RESULTS: Final = ("opt_out", "other", "forged", "malformed")
BOUNDS_S: Final = (1.0, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0, 43200.0, 259200.0)


def observe_delay(counters: WorkerCounters, seconds: float) -> None:
    """Count a final receipt by how long after the acceptance it came."""
    counters.add(DELAY_SECONDS, value=seconds)
    counters.add(DELAY_BUCKETS, next((str(bound) for bound in BOUNDS_S if seconds <= bound), "+Inf"))
