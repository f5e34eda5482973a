"""Recent calls to the gateway: their outcomes and latencies."""

from collections import Counter
from collections.abc import Sequence

from msgspec import Struct
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.gateway.outcome import Outcome

MAX_CALLS = 2000
WINDOW_MIN = 5
EDGES_MS = (0, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)


class LatencyBucket(Struct, frozen=True):
    """A histogram bucket: calls that took from `from_ms` to below `to_ms`; the last bucket has no end."""

    from_ms: int
    to_ms: int | None
    calls: int


class RecentCalls(Struct, frozen=True):
    """The calls of the last WINDOW_MIN minutes, at most the newest MAX_CALLS.

    `median_ms` and `p95_ms` (95th percentile) are None without a call that has ended.
    """

    calls: int
    outcomes: dict[Outcome, int]
    latencies: list[LatencyBucket]
    median_ms: int | None
    p95_ms: int | None


# The newest calls of each mailing that may have made some, merged. An index of all calls by time would cost every
# message an entry. Mailings that are over are read, too, 1 ms for 1,000.
_NEWEST = f"""
    SELECT a.outcome, a.duration_ms FROM mailing g CROSS JOIN LATERAL (
        SELECT * FROM attempt WHERE mailing_id = g.id AND started_at > now() - interval '{WINDOW_MIN} min'
        ORDER BY started_at DESC LIMIT {MAX_CALLS}) a
    WHERE g.status IN ('running', 'paused')
        OR greatest(g.updated_at, g.finished_at) > now() - interval '{2 * WINDOW_MIN} min'
    ORDER BY a.started_at DESC LIMIT {MAX_CALLS}
"""  # noqa: S608 - constants of this module

# Index: attempt_of_mailing; at most MAX_CALLS rows of each mailing. 2 ms.
_COUNTED = text(f"""
    SELECT outcome, width_bucket(duration_ms, CAST(:edges AS int[])) AS bucket, count(*) AS calls
    FROM ({_NEWEST}) a GROUP BY 1, 2
""")  # noqa: S608 - constants of this module
_QUANTILES = text(f"""
    SELECT percentile_disc(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY duration_ms) FROM ({_NEWEST}) a
""")  # noqa: S608 - constants of this module


async def recent_calls(session: AsyncSession) -> RecentCalls:
    counted = await session.execute(_COUNTED, {"edges": list(EDGES_MS)})
    quantiles: Sequence[int | None] = await session.scalar(_QUANTILES) or (None, None)
    outcomes, buckets = Counter[Outcome](), Counter[int | None]()
    for row in counted:
        outcomes[Outcome(row.outcome)] += row.calls
        buckets[row.bucket] += row.calls
    return RecentCalls(
        calls=outcomes.total(),
        outcomes={outcome: outcomes[outcome] for outcome in Outcome if outcomes[outcome]},
        latencies=[
            LatencyBucket(low, high, buckets[number])
            for number, (low, high) in enumerate(zip(EDGES_MS, (*EDGES_MS[1:], None), strict=True), 1)
        ],
        median_ms=quantiles[0],
        p95_ms=quantiles[1],
    )
