"""Counters of receipts and replies, added to the totals that `/metrics` shows."""

from collections import Counter
from collections.abc import Sequence
from typing import Final

from mailing.observability.counters import Buckets, WorkerCounters

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
DELAY_S: Final = Buckets(1.0, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0, 43200.0, 259200.0)


def observe_delays(counters: WorkerCounters, delays_s: Sequence[float]) -> None:
    """Count final receipts by how long after the acceptance they came."""
    counters.add(DELAY_SECONDS, value=sum(delays_s))
    for bucket, count in Counter(map(DELAY_S.of, delays_s)).items():
        counters.add(DELAY_BUCKETS, bucket, value=count)
