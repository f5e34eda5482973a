"""The backlog: its groups, and that reading them costs the same for any number of messages."""

from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from msgspec.structs import replace
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.database.engine import transaction
from mailing.gateway import repository
from mailing.messages.states import WaitReason
from mailing.statistics import backlog as waiting
from mailing.statistics.backlog import MAX_COUNTED, MAX_WINDOWS, BacklogItem
from support.database import Database
from support.query_plans import ANALYZE, rows_read, scans

SOON = datetime(2040, 1, 1, tzinfo=UTC)


async def add_waiting(
    db: Database, mailing_id: int, count: int, *, zone: str = "UTC", waiting: str | None = "window", due: datetime
) -> None:
    """Each message with a client of its own."""
    add = """
        INSERT INTO message (mailing_id, client_id, due_at, closes_at, wait_reason)
        SELECT :mailing_id, id, :due, '2050-01-01Z', CAST(:waiting AS text)
        FROM unnest(CAST(:clients AS bigint[])) id"""
    clients = await db.add_clients(count, timezone=zone)
    await db.run(add, mailing_id=mailing_id, clients=clients, waiting=waiting, due=due)


@pytest.fixture
async def mailing_id(db: Database) -> int:
    return await db.add_mailing()


async def test_openings_come_soonest_first_with_their_zones(db: Database, mailing_id: int) -> None:
    later = SOON + timedelta(hours=3)
    await add_waiting(db, mailing_id, 3, zone="Europe/Moscow", due=later)
    await add_waiting(db, mailing_id, 2, zone="Europe/Minsk", due=later)
    await add_waiting(db, mailing_id, 7, zone="Asia/Omsk", due=SOON)
    await add_waiting(db, await db.add_mailing(), 1, zone="Asia/Tokyo", due=SOON)
    assert await db.commit(waiting.waiting_for_window, mailing_id) == [
        BacklogItem(WaitReason.window, 7, SOON, zones=["Asia/Omsk"]),
        BacklogItem(WaitReason.window, 5, later, zones=["Europe/Minsk", "Europe/Moscow"]),
    ]


async def test_beyond_the_bound_it_says_that_there_are_more(db: Database, mailing_id: int) -> None:
    await add_waiting(db, mailing_id, MAX_COUNTED + 5, due=SOON)
    assert await db.commit(waiting.waiting_for_window, mailing_id) == [
        BacklogItem(WaitReason.window, MAX_COUNTED, SOON, more=True, zones=["UTC"])
    ]


async def test_what_was_postponed_stands_by_its_reason(db: Database, mailing_id: int) -> None:
    for n in range(3):
        await add_waiting(db, mailing_id, 1, waiting="retry", due=SOON + timedelta(seconds=n))
    await add_waiting(db, mailing_id, 2, waiting="rate", due=SOON - timedelta(hours=1))
    assert await db.commit(waiting.postponed, mailing_id) == [
        BacklogItem(WaitReason.rate, 2, SOON - timedelta(hours=1)),
        BacklogItem(WaitReason.retry, 3, SOON),
    ]


async def test_what_may_go_waits_for_its_turn_or_for_the_breaker(db: Database, mailing_id: int) -> None:
    past = datetime.now(UTC) - timedelta(hours=1)
    await add_waiting(db, mailing_id, 4, waiting=None, due=past)
    await add_waiting(db, mailing_id, 1, waiting=None, due=past)
    await db.run("UPDATE message SET closes_at = '-infinity' WHERE id = (SELECT max(id) FROM message)")
    async with transaction(db.sessions) as session:
        state = await repository.read(session)
        broken = replace(state, breaker_opened_at=past, breaker_next_probe_at=SOON)
        assert await waiting.due(session, mailing_id, state) == [
            BacklogItem(WaitReason.rate, 4),
            BacklogItem(WaitReason.window, 1),
        ]
        assert await waiting.due(session, mailing_id, broken) == [
            BacklogItem(WaitReason.breaker, 4, SOON),
            BacklogItem(WaitReason.window, 1),
        ]


@pytest.mark.parametrize("analyse", [True, False])
async def test_the_openings_are_found_from_one_to_the_next(db: Database, mailing_id: int, *, analyse: bool) -> None:
    """20,000 messages of 4 openings: counting is bounded, and no step to the next opening reads what lies between."""
    await db.run(ANALYZE)
    for n, zone in enumerate(("Asia/Omsk", "Asia/Tomsk", "Europe/Samara", "Europe/Moscow")):
        await add_waiting(db, mailing_id, 5000, zone=zone, due=SOON + timedelta(hours=n))
    found = await scans(db.engine, partial(waiting.waiting_for_window, mailing_id=mailing_id), analyse=analyse)
    of_messages = [node for node in found if node.get("Relation Name") == "message"]
    assert {node["Index Name"] for node in of_messages} == {"message_by_wait"}
    steps = [node for node in of_messages if rows_read(node) <= MAX_WINDOWS]
    assert len(steps) == 2
    assert max(rows_read(node) for node in of_messages) <= 4 * MAX_COUNTED


@pytest.mark.parametrize("analyse", [True, False])
async def test_what_is_due_is_counted_up_to_a_bound(db: Database, mailing_id: int, *, analyse: bool) -> None:
    await db.run(ANALYZE)
    await add_waiting(db, mailing_id, 5 * MAX_COUNTED, waiting=None, due=datetime.now(UTC) - timedelta(hours=1))
    async with db.engine.connect() as connection:
        state = await repository.read(AsyncSession(connection))
    for call in (partial(waiting.due, state=state), waiting.postponed):
        found = await scans(db.engine, partial(call, mailing_id=mailing_id), analyse=analyse)
        of_messages = [node for node in found if node.get("Relation Name") == "message"]
        assert {node["Index Name"] for node in of_messages} <= {"message_due", "message_by_wait"}
        assert all(rows_read(node) <= MAX_COUNTED + 1 for node in found)
    assert await db.value("SELECT pending FROM mailing_counts") == 5 * MAX_COUNTED
