"""The progress of a mailing and its estimated end."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from mailing.database.engine import Sessions, transaction
from mailing.mailings.orm_repository import MailingRepository
from mailing.messages.states import WaitReason
from mailing.statistics.backlog import BacklogItem
from mailing.statistics.progress import Progress, estimate_done_at, progress_of
from support.rows import add_mailing, add_messages, run

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


async def progress(sessions: Sessions, mailing_id: int) -> Progress:
    async with transaction(sessions) as session:
        return await progress_of(session, await MailingRepository(session=session).get_visible(mailing_id))


async def test_a_running_mailing_ends_at_its_pace(engine: AsyncEngine, sessions: Sessions) -> None:
    mailing_id = await add_mailing(engine)
    await add_messages(engine, mailing_id, ["pending"] * 30)
    await run(engine, "INSERT INTO mailing_throughput VALUES (:id, date_trunc('minute', now()), 10)", id=mailing_id)
    found = await progress(sessions, mailing_id)
    assert (found.left, found.per_minute, found.planning) == (30, 10, False)
    assert found.done_at == found.gateway.now + timedelta(minutes=3)


@pytest.mark.parametrize(
    "held", ["UPDATE gateway SET stopped_at = now(), stopped_by = 'x'", "UPDATE mailing SET status = 'paused'"]
)
async def test_what_is_stopped_has_no_end_in_sight(engine: AsyncEngine, sessions: Sessions, held: str) -> None:
    mailing_id = await add_mailing(engine)
    await add_messages(engine, mailing_id, ["pending"] * 3)
    await run(engine, "INSERT INTO mailing_throughput VALUES (:id, date_trunc('minute', now()), 10)", id=mailing_id)
    await run(engine, held)
    found = await progress(sessions, mailing_id)
    assert (found.done_at, found.backlog) == (None, [BacklogItem(WaitReason.pause, 3)])


async def test_a_mailing_whose_plan_is_behind_says_so(engine: AsyncEngine, sessions: Sessions) -> None:
    mailing_id = await add_mailing(engine)
    await run(engine, "UPDATE mailing SET plan_revision = 2")
    assert (await progress(sessions, mailing_id)).planning


@pytest.mark.parametrize("status", ["finished", "cancelled"])
async def test_a_closed_mailing_waits_for_nothing(engine: AsyncEngine, sessions: Sessions, status: str) -> None:
    mailing_id = await add_mailing(engine, status=status)
    found = await progress(sessions, mailing_id)
    assert (found.backlog, found.per_minute, found.done_at) == ([], 0, None)


def test_the_end_is_not_before_the_last_opening() -> None:
    waits = [BacklogItem(WaitReason.rate, 5), BacklogItem(WaitReason.window, 5, NOON + timedelta(hours=4))]
    assert estimate_done_at(10, 100, waits, now=NOON) == NOON + timedelta(hours=4)
    assert estimate_done_at(10, 0, waits, now=NOON) is None
    assert estimate_done_at(0, 100, [], now=NOON) is None
