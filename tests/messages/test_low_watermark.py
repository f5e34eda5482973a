"""Where a mailing's pending messages begin: never behind one of them, and beyond what was claimed."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.database.engine import transaction
from mailing.mailings.repository import find_pending_work
from mailing.messages.cancellation import cancel_of_mailing
from mailing.messages.claim import claim
from mailing.messages.queries import messages_of
from mailing.messages.rescheduling import expire_of_mailing
from mailing.messages.resolution import resend_failed
from mailing.messages.states import MessageStatus
from support.database import LOCK_WAITS, Database
from support.query_plans import ANALYZE, buffers

PENDING = """
    INSERT INTO message (mailing_id, client_id, due_at, closes_at)
    SELECT :id, c.id, now() - interval '1 min', now() + interval '1 h' FROM client c ORDER BY c.id"""
BEHIND = """
    SELECT count(*) FROM message m JOIN message_low_watermark f USING (mailing_id)
    WHERE m.status = 'pending' AND (m.due_at, m.id) < (f.due_at, f.id)"""
FIRST = "SELECT min(id) FROM message WHERE status = 'pending'"
FRONT = "SELECT id FROM message_low_watermark WHERE mailing_id = :id"
SENT = """
    UPDATE message SET status = 'sent', counted_attempts = 1, lease_until = NULL, finished_at = now()
    WHERE status = 'sending'"""


async def pending(db: Database, count: int) -> int:
    """Add a mailing with `count` messages that are due at the same instant."""
    mailing_id = await db.add_mailing()
    await db.add_clients(count)
    await db.run(PENDING, id=mailing_id)
    return mailing_id


@asynccontextmanager
async def snapshot(database_url: str) -> AsyncIterator[None]:
    """Held open beside the block, as by a backup: VACUUM can remove nothing that it still sees."""
    connection = await asyncpg.connect(database_url)
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        await connection.execute("SELECT count(*) FROM message")
        yield
    await connection.close()


async def claimed(db: Database, mailing_id: int, count: int) -> list[int]:
    return [message.id for message in await db.commit(claim, mailing_id, count)]


async def test_the_front_follows_the_claims(db: Database) -> None:
    mailing_id = await pending(db, 10)
    assert await claimed(db, mailing_id, 4)
    assert await db.value(FRONT, id=mailing_id) == await db.value(FIRST)
    assert len(await claimed(db, mailing_id, 100)) == 6
    assert await db.value("SELECT due_at = 'infinity' FROM message_low_watermark")


# In the order of message_due, one message each; the sweep's look at everything that is open.
CALLS: Mapping[str, Callable[[AsyncSession, int], Awaitable[object]]] = {
    "claim": lambda session, mailing_id: claim(session, mailing_id, 1),
    "expire": lambda session, mailing_id: expire_of_mailing(session, mailing_id, 1),
    "cancel": lambda session, mailing_id: cancel_of_mailing(session, mailing_id, 1),
    "sweep": lambda session, _: find_pending_work(session, after=0, count=1),
}


@pytest.mark.parametrize("name", CALLS)
async def test_a_statement_looks_at_no_more_pages_when_thousands_were_sent_under_an_open_snapshot(
    db: Database, database_url: str, name: str
) -> None:
    mailing_id = await pending(db, 6010)
    await db.run(ANALYZE)
    async with snapshot(database_url):
        await claimed(db, mailing_id, 10)
        first = await buffers(db.engine, lambda session: CALLS[name](session, mailing_id))
        for _ in range(12):
            await claimed(db, mailing_id, 490)
            await db.run(SENT)
        later = await buffers(db.engine, lambda session: CALLS[name](session, mailing_id))
    assert later <= first + 10, (first, later)


@pytest.mark.parametrize("left", [0, 100])
async def test_a_page_of_messages_passes_over_what_was_sent_since(db: Database, database_url: str, left: int) -> None:
    """A snapshot still sees all of them pending: a page of sent ones alone costs the same, whatever is left unsent."""
    mailing_id = await pending(db, 2000 + left)
    async with snapshot(database_url):
        await claimed(db, mailing_id, 2000)
        await db.run(SENT)
        sent, whole = [
            await buffers(db.engine, partial(messages_of, mailing_id=mailing_id, cursor=0, limit=50, status=status))
            for status in (MessageStatus.sent, None)
        ]
    assert whole <= sent + 20, (sent, whole)


async def test_what_another_worker_is_just_claiming_is_not_left_behind(db: Database) -> None:
    """It is passed over by a second claim, which waits for the counters; then the first one is rolled back."""
    mailing_id = await pending(db, 10)
    async with db.sessions() as broken:
        given_up = [message.id for message in await claim(broken, mailing_id, 3)]
        second = asyncio.create_task(claimed(db, mailing_id, 3))
        while not await db.value(LOCK_WAITS):
            assert not second.done()
        await broken.rollback()
    assert not set(await second) & set(given_up)
    assert await db.value(BEHIND) == 0
    assert await claimed(db, mailing_id, 3) == given_up


async def test_what_becomes_pending_before_the_front_takes_it_back(db: Database) -> None:
    mailing_id = await pending(db, 3)
    await claimed(db, mailing_id, 3)
    await db.run(SENT.replace("'sent'", "'failed'"))
    assert await db.commit(resend_failed, mailing_id) == 3
    assert await db.value(BEHIND) == 0
    assert await db.value("SELECT due_at < now() FROM message_low_watermark")
    await db.run("UPDATE message SET closes_at = now() + interval '1 h'")
    assert len(await claimed(db, mailing_id, 3)) == 3


async def test_messages_planned_by_a_transaction_that_commits_late_are_not_behind_the_front(db: Database) -> None:
    """Its rows are due before those that were claimed meanwhile."""
    mailing_id = await pending(db, 2)
    async with db.sessions() as late:
        await late.execute(
            text("INSERT INTO client (phone, operator_code, timezone) VALUES ('79990000001', '999', 'UTC')")
        )
        await late.execute(
            text("""
            INSERT INTO message (mailing_id, client_id, due_at, closes_at)
            SELECT 1, max(id), now() - interval '1 h', now() + interval '1 h' FROM client""")
        )
        await late.commit()
    assert await db.value(BEHIND) == 0
    assert len(await claimed(db, mailing_id, 3)) == 3


@pytest.mark.parametrize("seed", range(5))
async def test_whatever_moves_messages_none_is_behind_the_front(db: Database, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - a test's course
    mailing_id = await pending(db, 60)
    for _ in range(25):
        async with transaction(db.sessions) as session:
            await chance.choice(MOVES)(session, mailing_id, chance.randint(1, 20))
        assert await db.value(BEHIND) == 0


async def _retry(session: AsyncSession, mailing_id: int, count: int) -> None:
    """Back to pending, sooner or later than it was."""
    await session.execute(
        text("""
            UPDATE message SET status = 'pending', lease_until = NULL,
                due_at = due_at + (random() - 0.6) * interval '1 min'
            WHERE id = ANY(ARRAY(
                SELECT id FROM message WHERE mailing_id = :id AND status = 'sending' LIMIT :count))"""),
        {"id": mailing_id, "count": count},
    )


async def _reopen(session: AsyncSession, mailing_id: int, count: int) -> None:
    """As an edit does with what the end had closed."""
    await session.execute(
        text("""
            UPDATE message SET status = 'pending', finished_at = NULL
            WHERE id = ANY(ARRAY(SELECT id FROM message WHERE mailing_id = :id AND status IN ('expired', 'cancelled')
                ORDER BY id LIMIT :count))"""),
        {"id": mailing_id, "count": count},
    )


MOVES: Sequence[Callable[[AsyncSession, int, int], Awaitable[object]]] = (
    claim,
    lambda session, mailing_id, count: expire_of_mailing(session, mailing_id, min(count, 3)),
    lambda session, mailing_id, count: cancel_of_mailing(session, mailing_id, min(count, 3)),
    _retry,
    _reopen,
)
