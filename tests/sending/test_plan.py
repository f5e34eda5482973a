"""How a plan is written: two slices at a time, and none without the other's leave."""

import asyncio
from datetime import datetime, timedelta

import pytest
from sqlalchemy import text

from mailing.database.clock import database_now
from mailing.database.engine import transaction
from mailing.messages.planning import Audience, ClientSlice, next_slice, plan_slice
from mailing.messages.rescheduling import SendWindow
from mailing.messages.states import MessageStatus
from mailing.sending import plan
from mailing.sending.plan import plan_mailing
from support.database import LOCK_WAITS, Database

PLANNED = "SELECT array_agg(client_id ORDER BY client_id) FROM message"
LOOKED_AT = "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'client'"
OF_ANOTHER_WORKER = """
    INSERT INTO message (mailing_id, client_id, due_at, closes_at) VALUES ({mailing_id}, {client_id}, now(), now())"""
EDIT = "UPDATE mailing SET plan_revision = plan_revision + 1"


@pytest.fixture
async def mailing_id(db: Database, monkeypatch: pytest.MonkeyPatch) -> int:
    """To six clients, in slices of two, each side by side with one other."""
    monkeypatch.setattr(plan, "SLICE", 2)
    monkeypatch.setattr(plan, "ROUND_S", 0)
    await db.add_clients(6)
    return await db.add_mailing(is_planned=False)


async def test_a_slice_that_waits_keeps_its_neighbour_not_waiting_but_edits(db: Database, mailing_id: int) -> None:
    """An edit has its turn soon after, but not at once: the planner may be faster than a process that is woken."""
    await db.add_clients(54)
    async with db.engine.connect() as other, asyncio.TaskGroup() as tasks:
        await other.exec_driver_sql("SET LOCAL session_replication_role = replica")  # its triggers would lock counters
        await other.exec_driver_sql(OF_ANOTHER_WORKER.format(mailing_id=mailing_id, client_id=1))
        tasks.create_task(plan_mailing(db.sessions, mailing_id))
        await db.comes(PLANNED, [3, 4])
        edit = tasks.create_task(db.run(EDIT))
        await db.comes(LOCK_WAITS, 2)
        assert await db.value("SELECT plan_revision FROM mailing") == 1
        assert not edit.done()
        await other.rollback()
    assert await db.value("SELECT plan_revision FROM mailing") == 2
    planned = await db.value(PLANNED)
    assert planned[:4] == [1, 2, 3, 4]
    assert len(planned) < 60, "the edit made the rest of this plan obsolete"
    assert await db.value("SELECT planned_revision FROM mailing") == 0


async def test_until_a_round_ends_no_slice_waits_for_another(
    db: Database, mailing_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "ROUND_S", 600)
    async with db.engine.connect() as other, asyncio.TaskGroup() as tasks:
        await other.exec_driver_sql("SET LOCAL session_replication_role = replica")  # its triggers would lock counters
        await other.exec_driver_sql(OF_ANOTHER_WORKER.format(mailing_id=mailing_id, client_id=1))
        tasks.create_task(plan_mailing(db.sessions, mailing_id))
        await db.comes(PLANNED, [3, 4, 5, 6])
        await other.rollback()
    assert await db.value(PLANNED) == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("round_s", [0, 600])
async def test_a_plan_takes_every_slice_to_the_last(
    db: Database, mailing_id: int, monkeypatch: pytest.MonkeyPatch, round_s: float
) -> None:
    monkeypatch.setattr(plan, "ROUND_S", round_s)
    await plan_mailing(db.sessions, mailing_id)
    assert await db.value(PLANNED) == [1, 2, 3, 4, 5, 6]
    assert await db.value("SELECT planned_revision FROM mailing") == 1


@pytest.mark.parametrize("counted", [True, False], ids=["before this plan", "during this plan"])
async def test_messages_that_another_worker_has_planned_are_kept_and_brought_up_to_date(
    db: Database, mailing_id: int, *, counted: bool
) -> None:
    """What is committed after the plan has begun was not counted when it began."""
    await db.run(OF_ANOTHER_WORKER.format(mailing_id=mailing_id, client_id=3))
    message_id = await db.value("SELECT id FROM message")
    if not counted:
        await db.run("UPDATE mailing_counts SET planned = 0, pending = 0")
    await plan_mailing(db.sessions, mailing_id)
    assert await db.value(PLANNED) == [1, 2, 3, 4, 5, 6]
    assert await db.value("SELECT count(*) FROM message WHERE closes_at > now()") == 6
    assert await db.value("SELECT client_id FROM message WHERE id = :id", id=message_id) == 3


async def replanned(db: Database, mailing_id: int, opens_at: datetime, closes_at: datetime) -> None:
    window = SendWindow("UTC", opens_at, closes_at, None)
    part = ClientSlice(0, 30_000, ["UTC"])
    await db.commit(plan_slice, mailing_id, Audience([], [], 30_000), [window], part)


@pytest.mark.parametrize(("retry_h", "kept"), [(1, False), (3, True), (5, False)])
async def test_a_wait_for_a_retry_outlasts_an_edit_if_it_ends_in_the_new_window(
    db: Database, mailing_id: int, retry_h: int, kept: bool
) -> None:
    now = await db.value("SELECT now()")
    due, opens, closes = (now + timedelta(hours=hours) for hours in (retry_h, 2, 4))
    await plan_mailing(db.sessions, mailing_id)
    await db.run("UPDATE message SET wait_reason = 'retry', due_at = :due, closes_at = :closes", due=due, closes=closes)
    await replanned(db, mailing_id, opens, closes)
    expected = (due, closes, "retry") if kept else (opens, closes, "window")
    assert await db.run("SELECT DISTINCT due_at, closes_at, wait_reason FROM message") == [expected]


async def test_an_edit_plans_what_is_unsent_and_what_the_plan_had_ended(db: Database) -> None:
    mailing_id, ids = await db.add_audience([*MessageStatus, "cancelled"])
    await db.run("UPDATE message SET reason_code = 'unselected' WHERE id = :id", id=ids[-1])
    now = await db.value("SELECT now()")
    await replanned(db, mailing_id, now, now + timedelta(days=1))
    planned = {MessageStatus.pending, MessageStatus.expired}
    stay = [("pending", None) if status in planned else (status, None) for status in MessageStatus]
    assert await db.run("SELECT status, reason_code FROM message ORDER BY id") == [*stay, ("pending", None)]


@pytest.mark.parametrize("audience", [Audience(["few"], [], 30_000), Audience(["few", "none"], ["916"], 30_000)])
async def test_a_rare_tag_or_code_is_found_without_a_look_at_the_others(
    db: Database, mailing_id: int, audience: Audience
) -> None:
    """Six clients before 20,000 others, of whom the planner has not heard yet: it takes the tag for everybody's."""
    await db.run("UPDATE client SET tag = 'few'")
    await db.run("ANALYZE client")
    await db.run(
        """INSERT INTO client (phone, operator_code, tag, timezone)
        SELECT '79' || lpad(n::text, 9, '0'), '9' || 10 + n % 5, 'tag ' || n % 3, 'UTC'
        FROM generate_series(1, 20000) n"""
    )
    found = ClientSlice(0, 6, ["UTC"])
    async with transaction(db.sessions) as session:
        before = await session.scalar(text(LOOKED_AT))
        assert await next_slice(session, audience, after=0, count=20_000) == found
        assert await next_slice(session, audience, after=6, count=20_000) is None
        now = await database_now(session)
        opening = SendWindow("UTC", now, now + timedelta(hours=1), None)
        assert await plan_slice(session, mailing_id, audience, [opening], found) == 6
        assert await session.scalar(text(LOOKED_AT)) - before <= 30
