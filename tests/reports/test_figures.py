import random
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.mailings.counts import Counts
from mailing.reasons.codes import Reason, ReasonCode
from mailing.reports.figures import DayCounts, Figures, ReasonCount
from mailing.reports.repository import figures_of, snapshot
from mailing.reports.schedule import day_of
from support.database import Database
from support.query_plans import nodes, parsed, statements
from support.reports import Rows

ZONE = ZoneInfo("Europe/Moscow")
DAY = day_of(date(2024, 1, 5), ZONE)
NOON = DAY.starts + timedelta(hours=12)
NOTHING = Counts(*[0] * len(Counts.__struct_fields__))
ENDS = ("sent", "failed", "expired", "unknown", "cancelled")


async def figures(db: Database) -> Figures:
    async with snapshot(db.sessions) as session:
        return await figures_of(session, DAY, taken_at=DAY.ends)


async def test_every_figure_equals_an_independent_count(db: Database, rows: Rows) -> None:
    chance = random.Random(7)  # noqa: S311 - rows, not secrets
    mailings = [await rows.mailing(f"text {n}", deleted=n == 3) for n in range(6)]
    for _ in range(60):
        at = DAY.starts + timedelta(minutes=chance.randrange(-1440, 2 * 1440))
        status = chance.choice([*ENDS, "pending", "sending"])
        ended = None if status in {"pending", "sending"} else at
        await rows.messages(chance.choice(mailings), status, chance.randrange(1, 40), at=ended, reason=ReasonCode.html)
    found = await figures(db)
    async with db.sessions() as session:
        counted = await session.execute(
            text("""
                SELECT mailing_id, status, count(*) FILTER (
                    WHERE (finished_at AT TIME ZONE 'Europe/Moscow')::date = DATE '2024-01-05'), count(*)
                FROM message GROUP BY 1, 2""")
        )
        expected = {(mailing_id, status): (day, ever) for mailing_id, status, day, ever in counted}
    for mailing in found.mailings:
        for status in ENDS:
            assert getattr(mailing.ended, status) == expected.get((mailing.id, status), (0, 0))[0]
        for status in (*ENDS, "pending", "sending"):
            assert getattr(mailing.totals, status) == expected.get((mailing.id, status), (0, 0))[1]
        assert mailing.totals.planned == sum(ever for (of, _), (_, ever) in expected.items() if of == mailing.id)
    for status in ENDS:
        assert getattr(found.ended, status) == sum(day for (_, of), (day, _) in expected.items() if of == status)
        assert getattr(found.totals, status) == sum(ever for (_, of), (_, ever) in expected.items() if of == status)
    assert found.ended.not_sent == sum(reason.messages for reason in found.reasons)
    assert found.ended.not_sent == sum(hour.not_sent for hour in found.hours)
    assert {hour.number: hour.sent for hour in found.hours if hour.sent} == await sent_by_clock(db)


async def sent_by_clock(db: Database) -> dict[int, int]:
    """As Moscow's clocks show it, which are never changed."""
    counted = text("""
        SELECT extract(hour FROM finished_at AT TIME ZONE 'Europe/Moscow')::int, count(*) FROM message
        WHERE status = 'sent' AND (finished_at AT TIME ZONE 'Europe/Moscow')::date = DATE '2024-01-05' GROUP BY 1""")
    async with db.sessions() as session:
        return {row[0]: row[1] for row in await session.execute(counted)}


async def test_the_day_begins_with_its_first_instant_and_ends_before_the_next_days(db: Database, rows: Rows) -> None:
    tick = timedelta(microseconds=1)
    mailing = await rows.mailing()
    for at in (DAY.starts - tick, DAY.starts, DAY.ends - tick, DAY.ends):
        await rows.messages(mailing, "sent", at=at)
    assert (await figures(db)).ended == DayCounts(sent=2)


async def test_a_mailing_is_named_when_it_ended_messages_was_launched_or_is_under_way(db: Database, rows: Rows) -> None:
    busy = await rows.mailing("busy", status="finished")
    await rows.messages(busy, "sent", at=NOON)
    deleted = await rows.mailing("deleted", status="cancelled", deleted=True)
    await rows.messages(deleted, "cancelled", at=NOON)
    running = await rows.mailing("running", status="paused")
    launched = await rows.mailing("launched", status="finished", started_at=NOON)
    idle = await rows.mailing("idle", status="finished")
    await rows.messages(idle, "sent", at=DAY.ends)
    await rows.mailing("not yet", status="scheduled")
    found = (await figures(db)).mailings
    assert [(each.id, each.status) for each in found] == [
        (busy, "finished"),
        (deleted, "deleted"),
        (running, "paused"),
        (launched, "finished"),
    ]


async def test_the_ten_most_frequent_reasons_are_named_and_the_others_counted(db: Database, rows: Rows) -> None:
    mailing = await rows.mailing()
    await rows.messages(mailing, "sent", 5, at=NOON)
    for n in range(12):
        await rows.messages(mailing, "failed", 20 - n, at=NOON, reason=ReasonCode.gateway_code, code=n)
    await rows.messages(mailing, "expired", 30, at=NOON)
    await rows.messages(mailing, "cancelled", 99, at=NOON, reason=ReasonCode.mailing_cancelled)
    found = await figures(db)
    assert found.reasons[:2] == [
        ReasonCount("expired", None, 30),
        ReasonCount("failed", Reason(ReasonCode.gateway_code, {"code": 0}), 20),
    ]
    assert len(found.reasons) == 10
    assert found.other_reasons == 11 + 10 + 9


async def test_without_any_mailing_everything_is_zero(db: Database) -> None:
    found = await figures(db)
    assert (found.mailings, found.ended, found.totals, found.reasons) == ([], DayCounts(), NOTHING, [])


async def test_the_figures_are_of_one_moment_and_nothing_can_be_written(db: Database, rows: Rows) -> None:
    mailing = await rows.mailing()
    async with snapshot(db.sessions) as session:
        await session.execute(text("SELECT 1 FROM mailing"))
        await rows.messages(mailing, "sent", at=NOON)
        found = await figures_of(session, DAY, taken_at=datetime.now(UTC))
        assert (found.ended, found.totals) == (DayCounts(), NOTHING)
        with pytest.raises(DBAPIError):
            await session.execute(text("DELETE FROM report"))


async def test_every_statement_finds_the_messages_of_the_day_by_their_block_ranges(db: Database) -> None:
    async def read(session: AsyncSession) -> None:
        await figures_of(session, DAY, taken_at=DAY.ends, receipts=True)

    asked = [each for each in await statements(db.engine, read) if "finished_at >= " in each[0]]
    async with db.engine.connect() as connection:
        await connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        for statement, values in asked:
            found = await connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", values)
            used = {node.get("Index Name") for node in nodes(parsed(found.scalar_one()))}
            assert "message_finished" in used, statement
    assert len(asked) == 4
