"""A plan and a change of its clients at the same moment: the interleavings of decision 24."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.clients.csv_transfer import import_clients
from mailing.clients.repository import ClientRepository
from mailing.clients.schemas import ClientPatch
from mailing.database.clock import database_now
from mailing.database.engine import transaction
from mailing.mailings.orm_repository import MailingRepository
from mailing.messages.cancellation import cancel_of_client, cancel_of_deleted, pending_of_mailing
from mailing.messages.locks import lock_for_plan
from mailing.messages.planning import Audience, ClientSlice, cancel_unselected, next_slice, plan_slice
from mailing.messages.redaction import redact_phone
from mailing.messages.rescheduling import SendWindow, invalidate_windows_of_client
from mailing.reasons.codes import ReasonCode
from mailing.sending.finalize import settle_mailing
from mailing.sending.plan import plan_mailing
from support.client_requests import in_pieces
from support.database import LOCK_WAITS, PLAN_LOCK_WAITS, Database

AUDIENCE = Audience([], [], 1_000)
MESSAGE = "SELECT status, closes_at = '-infinity' AS void, closes_at > now() AS open FROM message"


async def move(session: AsyncSession, client_id: int) -> None:
    await ClientRepository(session).change(client_id, ClientPatch(timezone="Asia/Tokyo"), by="test")


async def opt_out(session: AsyncSession, client_id: int) -> None:
    await ClientRepository(session).change(client_id, ClientPatch(opted_out=True), by="test")


async def remove(session: AsyncSession, client_id: int) -> None:
    await ClientRepository(session).remove(client_id, by="test")


async def move_by_import(session: AsyncSession, client_id: int) -> None:
    client = await ClientRepository(session).get(client_id)
    await import_clients(session, in_pieces(f"phone,timezone\n{client.phone},Asia/Tokyo\n"), by="test")


Act = Callable[[AsyncSession], Awaitable[object]]
CHANGES = {"moved": move, "moved by an import": move_by_import, "opted out": opt_out, "deleted": remove}


@pytest.fixture
async def client_id(db: Database) -> int:
    """In Europe/Moscow."""
    return await db.add_client()


@pytest.fixture
async def mailing_id(db: Database) -> int:
    """Not planned yet."""
    return await db.add_mailing(is_planned=False)


async def plan_slice_of(session: AsyncSession, mailing_id: int, part: ClientSlice) -> None:
    now = await database_now(session)
    openings = [SendWindow(zone, now, now + timedelta(hours=1), None) for zone in part.timezones]
    await plan_slice(session, mailing_id, AUDIENCE, openings, part)


@pytest.mark.parametrize("kind", CHANGES)
async def test_a_change_that_begins_during_a_plan_waits_for_it_and_repairs_what_it_planned(
    db: Database, client_id: int, mailing_id: int, kind: str
) -> None:
    async def change() -> None:
        async with transaction(db.sessions) as session:
            await CHANGES[kind](session, client_id)

    async with transaction(db.sessions) as plan:
        assert await lock_for_plan(plan)
        await plan_slice_of(plan, mailing_id, ClientSlice(0, client_id, ["Europe/Moscow"]))
        changing = asyncio.create_task(change())
        await db.comes(PLAN_LOCK_WAITS, 1)
    await changing
    (message,) = await db.run(MESSAGE)
    moved = kind.startswith("moved")
    assert (message.status, message.void) == ("pending" if moved else "cancelled", moved)


@pytest.mark.parametrize("kind", CHANGES)
async def test_a_plan_that_begins_during_a_change_waits_for_it_and_sees_what_it_changed(
    db: Database, client_id: int, mailing_id: int, kind: str
) -> None:
    async with db.sessions() as change, change.begin():
        await CHANGES[kind](change, client_id)
        planning = asyncio.create_task(plan_mailing(db.sessions, mailing_id))
        await db.comes(PLAN_LOCK_WAITS, 1)
        assert await db.value("SELECT count(*) FROM message") == 0
    await planning
    await settle_mailing(db.sessions, mailing_id)
    planned = await db.run(MESSAGE)
    assert planned == ([("pending", False, True)] if kind.startswith("moved") else [])


async def test_a_client_whose_zone_is_new_since_the_zones_were_read_gets_its_message_all_the_same(
    db: Database, client_id: int, mailing_id: int
) -> None:
    """It moved by whatever hand, or it was stored only now under an id that had been given to it before."""
    async with transaction(db.sessions) as session:
        part = await next_slice(session, AUDIENCE, after=0, count=10)
        assert part is not None
    await db.run("UPDATE client SET timezone = 'Asia/Tokyo' WHERE id = :id", id=client_id)
    async with transaction(db.sessions) as session:
        assert await lock_for_plan(session)
        await plan_slice_of(session, mailing_id, part)
    assert await db.run(MESSAGE) == [("pending", True, False)]
    await settle_mailing(db.sessions, mailing_id)
    assert await db.run(MESSAGE) == [("pending", False, True)]


async def test_an_opening_is_not_computed_by_the_zone_from_before_a_change_under_way(
    db: Database, client_id: int, mailing_id: int
) -> None:
    await plan_mailing(db.sessions, mailing_id)
    await db.run("UPDATE message SET closes_at = now()")  # its opening is over
    async with db.sessions() as change, change.begin():
        await move(change, client_id)
        settling = asyncio.create_task(settle_mailing(db.sessions, mailing_id))
        await db.comes(PLAN_LOCK_WAITS, 1)
    await settling
    assert await db.run(MESSAGE) == [("pending", False, True)]


async def test_plans_run_side_by_side_and_so_do_changes(db: Database, client_id: int) -> None:
    neighbour = await db.add_client(phone="79161234568")
    async with transaction(db.sessions) as one, transaction(db.sessions) as other:
        assert await lock_for_plan(one)
        assert await lock_for_plan(other)
    async with transaction(db.sessions) as one, transaction(db.sessions) as other:
        await opt_out(one, client_id)
        await opt_out(other, neighbour)


async def test_a_plan_that_waits_for_a_long_import_lets_the_changes_behind_it_pass(
    db: Database, client_id: int
) -> None:
    neighbour = await db.add_client(phone="79161234568")
    async with db.sessions() as long, long.begin():
        await move_by_import(long, client_id)
        async with transaction(db.sessions) as plan:
            waiting = asyncio.create_task(lock_for_plan(plan))
            await db.comes(PLAN_LOCK_WAITS, 1)
            await db.commit(opt_out, neighbour)
            assert await waiting is False


@pytest.mark.parametrize("kind", CHANGES)
async def test_a_change_that_holds_the_counters_does_not_wait_for_an_act_on_the_mailing_that_wants_them(
    db: Database, client_id: int, mailing_id: int, kind: str
) -> None:
    """PostgreSQL checks the foreign key of a counter that a transaction updates twice: it locks the mailing's row."""
    await plan_mailing(db.sessions, mailing_id)
    async with transaction(db.sessions) as act:
        await MailingRepository(act).get_for_update(mailing_id)
        async with transaction(db.sessions) as change:
            await change.execute(text("SET LOCAL lock_timeout = '20s'"))
            await CHANGES[kind](change, client_id)
        await pending_of_mailing(act, mailing_id)


async def locks_by_id(db: Database, act: Act, messages: list[int]) -> None:
    """Two transactions that lock the same messages in another order would wait for each other."""

    async def run() -> None:
        async with transaction(db.sessions) as session:
            for way in ("nestloop", "mergejoin", "indexscan"):  # so that rows are read as they are stored
                await session.execute(text(f"SET LOCAL enable_{way} = off"))
            await act(session)

    first, *others = messages
    async with transaction(db.sessions) as import_:
        await import_.execute(text("SELECT FROM message WHERE id = :id FOR UPDATE"), {"id": first})
        acting = asyncio.create_task(run())
        await db.comes(LOCK_WAITS, 1)
        free = await db.run("SELECT id FROM message ORDER BY id FOR UPDATE SKIP LOCKED")
        assert [message.id for message in free] == others
    await acting


@pytest.mark.parametrize(
    "act",
    [
        lambda session: cancel_unselected(session, 1, Audience(["vip"], [], 100), after=0, count=100),
        lambda session: cancel_of_deleted(session, 1),
    ],
    ids=["an edit that unselects them", "a deletion"],
)
async def test_an_act_locks_the_messages_of_its_mailing_by_id_as_imports_do(
    db: Database, mailing_id: int, act: Act
) -> None:
    clients = await db.add_clients(20)
    messages = await db.add_messages(mailing_id, ["pending"] * 20, first_client=clients[0])
    await db.run("UPDATE client SET updated_at = now() WHERE id = :id", id=clients[0])  # stored behind the others now
    await db.run("UPDATE message SET due_at = now() WHERE id = :id", id=messages[0])  # this, too
    await locks_by_id(db, act, messages)
    assert await db.statuses(mailing_id) == {"cancelled": 20}


@pytest.mark.parametrize(
    "act",
    [
        lambda session: cancel_of_client(session, 1, reason=ReasonCode.client_opted_out),
        lambda session: invalidate_windows_of_client(session, 1),
        lambda session: redact_phone(session, "79161234567"),
    ],
    ids=["an opt-out", "a move", "an erasure"],
)
async def test_a_change_of_a_client_locks_its_messages_by_id_as_imports_do(
    db: Database, client_id: int, act: Act
) -> None:
    await db.run("TRUNCATE message")  # no room between rows that an earlier test has left
    mailings = [await db.add_mailing() for _ in range(5)]
    messages = [(await db.add_messages(of, ["pending"], first_client=client_id))[0] for of in reversed(mailings)]
    await db.run("UPDATE message SET phone = '79161234567'")
    await db.run("UPDATE message SET due_at = now() WHERE id = :id", id=messages[0])  # stored behind the others now
    await locks_by_id(db, act, messages)
