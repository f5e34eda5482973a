"""Outcomes and latencies of recent calls to the gateway."""

from datetime import timedelta

from mailing.gateway.outcome import Outcome
from mailing.statistics import latency
from mailing.statistics.latency import LatencyBucket, recent_calls
from support.database import Database
from support.query_plans import rows_read, scans

ADD = """
    INSERT INTO attempt (message_id, mailing_id, number, started_at, duration_ms, outcome)
    SELECT n + (SELECT coalesce(max(message_id), 0) FROM attempt), 1, 1,
        now() - n * interval '1 ms' - CAST(:ago AS interval), CAST(:ms AS int), :outcome
    FROM generate_series(1, CAST(:count AS int)) n"""


async def add_calls(db: Database, count: int, outcome: Outcome, ms: int | None, *, minutes_ago: int = 0) -> None:
    ago = timedelta(minutes=minutes_ago)
    await db.run(ADD, count=count, outcome=outcome.value, ms=ms, ago=ago)


async def test_recent_calls_by_outcome_and_by_how_long_they_took(db: Database) -> None:
    await db.add_mailing()
    await add_calls(db, 90, Outcome.accepted, 30)
    await add_calls(db, 9, Outcome.refused, 700)
    await add_calls(db, 1, Outcome.ambiguous, 10_000)
    await add_calls(db, 5, Outcome.ambiguous, None)
    await add_calls(db, 50, Outcome.not_sent, 1, minutes_ago=6)
    recent = await db.commit(recent_calls)
    assert recent.calls == 105
    assert recent.outcomes == {Outcome.accepted: 90, Outcome.refused: 9, Outcome.ambiguous: 6}
    assert (recent.median_ms, recent.p95_ms) == (30, 700)
    assert [stretch for stretch in recent.latencies if stretch.calls] == [
        LatencyBucket(0, 50, 90),
        LatencyBucket(500, 1000, 9),
        LatencyBucket(10_000, None, 1),
    ]


async def test_without_calls_there_is_nothing_to_tell(db: Database) -> None:
    recent = await db.commit(recent_calls)
    assert (recent.calls, recent.outcomes, recent.median_ms, recent.p95_ms) == (0, {}, None, None)


async def test_no_more_than_the_newest_are_read(db: Database) -> None:
    await db.add_mailing()
    await add_calls(db, 3 * latency.MAX_CALLS, Outcome.accepted, 20)
    found = await scans(db.engine, recent_calls)
    of_calls = [node for node in found if node.get("Relation Name") == "attempt"]
    assert {node["Index Name"] for node in of_calls} == {"attempt_of_mailing"}
    assert all(rows_read(node) <= latency.MAX_CALLS for node in of_calls)
