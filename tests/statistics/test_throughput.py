"""Messages sent by minute, step and hour."""

from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from mailing.database.clock import database_now
from mailing.database.engine import transaction
from mailing.messages.redaction import delete_old_minutes
from mailing.statistics import throughput
from mailing.statistics.throughput import MAX_STEPS, MinuteCount, Timeseries, last_hours, sent_in_last_minute, step_of
from support.database import Database
from support.query_plans import scans

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


async def add_minutes(db: Database, mailing_id: int, sent: dict[datetime, int]) -> None:
    for minute, count in sent.items():
        row = {"id": mailing_id, "minute": minute, "sent": count}
        await db.run("INSERT INTO mailing_throughput VALUES (:id, :minute, :sent)", **row)


async def test_what_goes_out_is_counted_in_its_minute(db: Database) -> None:
    first, second = await db.add_mailing(), await db.add_mailing()
    await db.add_messages(first, ["sending", "sending", "sending", "pending", "unknown"])
    await db.add_messages(second, ["sending"])
    for status in ("sending", "unknown"):
        change = """UPDATE message SET status = 'sent', lease_until = NULL, finished_at = now()
            WHERE status = :status AND client_id <> 3"""
        await db.run(change, status=status)
    async with transaction(db.sessions) as session:
        assert [await sent_in_last_minute(session, each) for each in (first, second)] == [2, 1]
    assert await db.value("SELECT sum(sent) FROM mailing_throughput") == 3


async def test_the_minute_before_counts_by_its_share(db: Database) -> None:
    mailing_id = await db.add_mailing()
    async with transaction(db.sessions) as session:
        now = await database_now(session)
        this = now.replace(second=0, microsecond=0)
        await add_minutes(db, mailing_id, {this - timedelta(minutes=2): 500, this - timedelta(minutes=1): 600})
        share = 1 - (now - this).total_seconds() / 60
        assert await sent_in_last_minute(session, mailing_id) == round(600 * share)


async def test_a_course_has_no_gap(db: Database) -> None:
    mailing_id = await db.add_mailing()
    minute = timedelta(minutes=1)
    await add_minutes(db, mailing_id, {NOON: 3, NOON + 2 * minute: 5})
    async with transaction(db.sessions) as session:
        assert await throughput.timeseries(session, mailing_id) == Timeseries(
            60, [MinuteCount(NOON, 3), MinuteCount(NOON + minute, 0), MinuteCount(NOON + 2 * minute, 5)]
        )
        assert await throughput.timeseries(session, await db.add_mailing()) is None


async def test_a_long_course_has_longer_steps(db: Database) -> None:
    mailing_id = await db.add_mailing()
    await add_minutes(db, mailing_id, {NOON: 1, NOON + timedelta(hours=1): 2, NOON + timedelta(days=5): 4})
    course = await db.commit(throughput.timeseries, mailing_id)
    assert course is not None
    assert course.step_s == 4 * 3600
    assert len(course.steps) <= MAX_STEPS
    assert sum(step.messages for step in course.steps) == 7


@pytest.mark.parametrize("minutes", [0, 1, 59, 60, 61, 600, 1440, 10_080, 44_640])
def test_a_course_never_has_more_than_its_most_steps(minutes: int) -> None:
    step_s = step_of(timedelta(minutes=minutes))
    assert minutes * 60 // step_s + 1 <= MAX_STEPS


async def test_the_last_hours_are_of_all_mailings_but_tests(db: Database) -> None:
    first, second, test = [await db.add_mailing() for _ in range(3)]
    await db.run("UPDATE mailing SET test_of_mailing_id = :first WHERE id = :test", first=first, test=test)
    async with transaction(db.sessions) as session:
        now = await database_now(session)
        hour = now.replace(minute=0, second=0, microsecond=0)
        for mailing_id in (first, second, test):
            await add_minutes(db, mailing_id, {hour: 1, hour - timedelta(hours=2): 10, hour - timedelta(hours=3): 9})
        assert await last_hours(session, 3, now=now) == [
            MinuteCount(hour - timedelta(hours=2), 20),
            MinuteCount(hour - timedelta(hours=1), 0),
            MinuteCount(hour, 2),
        ]


async def test_old_minutes_are_forgotten_a_few_at_a_time(db: Database) -> None:
    mailing_id = await db.add_mailing()
    days = [NOON - timedelta(days=400 + n) for n in range(3)]
    await add_minutes(db, mailing_id, dict.fromkeys([*days, datetime.now(UTC)], 1))
    await db.commit(delete_old_minutes, 2)
    assert await db.value("SELECT count(*) FROM mailing_throughput") == 2


async def test_a_mailings_pace_is_read_by_its_own_rows(db: Database) -> None:
    add = """INSERT INTO mailing_throughput SELECT m, now() - n * interval '1 min', 1
        FROM generate_series(1, 20) m, generate_series(1, 1000) n"""
    await db.run(add)
    for call in (sent_in_last_minute, throughput.timeseries):
        found = await scans(db.engine, partial(call, mailing_id=7))
        assert {node["Index Name"] for node in found if "Index Name" in node} == {"mailing_throughput_pkey"}
        assert "Seq Scan" not in {node["Node Type"] for node in found}
