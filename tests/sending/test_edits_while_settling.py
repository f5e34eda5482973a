"""An edit beside a settle job that has read the mailing: what the old end or hours decide does not outlast it."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.clients.repository import ClientRepository
from mailing.clients.schemas import ClientPatch
from mailing.database.clock import database_now
from mailing.mailings.editing import edit
from mailing.sending import finalize
from mailing.sending.finalize import settle_mailing
from mailing.sending.plan import plan_mailing
from support.database import LOCK_WAITS, Database

MESSAGE = "SELECT status, reason_code, closes_at > now() AS open FROM message"
OPEN = [("pending", None, True)]
# Closed until after the end, in Moscow and in Tokyo.
NO_HOURS = """
    UPDATE mailing SET ends_at = now() + interval '1 h',
        window_start = CAST(now() AT TIME ZONE 'Europe/Moscow' + interval '10 h' AS time),
        window_end = CAST(now() AT TIME ZONE 'Europe/Moscow' + interval '11 h' AS time)"""


@pytest.fixture
async def mailing_id(db: Database) -> int:
    """Planned: one message, due, to a client in Europe/Moscow."""
    await db.add_client()
    mailing_id = await db.add_mailing(is_planned=False)
    await plan_mailing(db.sessions, mailing_id)
    return mailing_id


def once_read(monkeypatch: pytest.MonkeyPatch, act: Callable[[], Awaitable[None]]) -> None:
    """The job stands still when it has read the mailing, until this is done."""
    acts = [act]

    async def now(session: AsyncSession) -> datetime:
        if acts:
            await acts.pop()()
        return await database_now(session)

    monkeypatch.setattr(finalize, "database_now", now)


async def replan(db: Database, mailing_id: int, **changes: datetime | None) -> None:
    await db.commit(edit, mailing_id, changes, by="test")
    await plan_mailing(db.sessions, mailing_id)


async def move(session: AsyncSession, client_id: int) -> None:
    await ClientRepository(session).change(client_id, ClientPatch(timezone="Asia/Tokyo"), by="test")


async def test_an_end_that_was_moved_on_and_planned_meanwhile_expires_nothing(
    db: Database, mailing_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    await db.run("UPDATE mailing SET ends_at = now()")
    once_read(monkeypatch, lambda: replan(db, mailing_id, ends_at=datetime.now(UTC) + timedelta(hours=1)))
    await settle_mailing(db.sessions, mailing_id)
    assert await db.run(MESSAGE) == OPEN


async def test_a_client_that_moved_after_the_new_plan_is_settled_by_the_new_hours(
    db: Database, mailing_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def act() -> None:
        await replan(db, mailing_id, local_window=None)
        await db.commit(move, await db.value("SELECT id FROM client"))

    await db.run(NO_HOURS)
    once_read(monkeypatch, act)
    await settle_mailing(db.sessions, mailing_id)
    assert await db.run(MESSAGE) == OPEN


async def test_an_edit_waits_for_a_slice_and_its_plan_takes_back_what_that_decided(
    db: Database, mailing_id: int
) -> None:
    await db.add_messages(mailing_id, ["sending"], first_client=1_000)  # keeps the mailing from finishing
    await db.run("UPDATE mailing SET ends_at = now()")
    later = {"ends_at": datetime.now(UTC) + timedelta(hours=1)}
    async with asyncio.TaskGroup() as tasks, db.holding("SELECT FROM mailing_counts FOR UPDATE"):
        tasks.create_task(settle_mailing(db.sessions, mailing_id))
        await db.comes(LOCK_WAITS, 1)
        tasks.create_task(db.commit(edit, mailing_id, later, by="test"))
        await db.comes(LOCK_WAITS, 2)
    assert await db.statuses(mailing_id) == {"expired": 1, "sending": 1}
    await plan_mailing(db.sessions, mailing_id)
    assert await db.statuses(mailing_id) == {"pending": 1, "sending": 1}


@pytest.mark.parametrize(
    ("leave", "reason"),
    [("UPDATE client SET opted_out = true", "client_opted_out"), ("DELETE FROM client", "client_deleted")],
)
async def test_a_void_window_of_a_client_that_left_ends_the_message(
    db: Database, mailing_id: int, leave: str, reason: str
) -> None:
    await db.run("UPDATE message SET closes_at = '-infinity'")
    await db.run(leave)
    await settle_mailing(db.sessions, mailing_id)
    assert await db.run("SELECT status, reason_code FROM message") == [("cancelled", reason)]


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ("UPDATE message SET closes_at = '-infinity'", "pending"),
        ("UPDATE mailing SET ends_at = now()", "expired"),
        ("UPDATE mailing SET status = 'cancelled'", "cancelled"),
    ],
)
async def test_a_locked_message_is_left_to_the_next_settle_job(
    db: Database, mailing_id: int, change: str, status: str
) -> None:
    await db.run(change)
    before = await db.run("SELECT status, closes_at FROM message")
    async with db.holding("SELECT FROM message FOR UPDATE"):
        await settle_mailing(db.sessions, mailing_id)
    assert await db.run("SELECT status, closes_at FROM message") == before
    await settle_mailing(db.sessions, mailing_id)
    assert await db.run("SELECT status, closes_at > now() FROM message") == [(status, True)]
