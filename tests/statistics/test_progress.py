"""The progress of a mailing and its estimated end."""

from datetime import UTC, datetime, timedelta

import pytest

from mailing.database.engine import transaction
from mailing.mailings.orm_repository import MailingRepository
from mailing.messages.states import WaitReason
from mailing.statistics.backlog import BacklogItem
from mailing.statistics.progress import Progress, estimate_done_at, progress_of
from support.database import Database

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


async def progress(db: Database, mailing_id: int) -> Progress:
    async with transaction(db.sessions) as session:
        return await progress_of(session, await MailingRepository(session=session).get_visible(mailing_id))


async def test_a_running_mailing_ends_at_its_pace(db: Database) -> None:
    mailing_id, _ = await db.add_mailing_of(["pending"] * 30)
    await db.run("INSERT INTO mailing_throughput VALUES (:id, date_trunc('minute', now()), 10)", id=mailing_id)
    found = await progress(db, mailing_id)
    assert (found.left, found.per_minute, found.planning) == (30, 10, False)
    assert found.done_at == found.gateway.now + timedelta(minutes=3)


@pytest.mark.parametrize(
    "held", ["UPDATE gateway SET stopped_at = now(), stopped_by = 'x'", "UPDATE mailing SET status = 'paused'"]
)
async def test_what_is_stopped_has_no_end_in_sight(db: Database, held: str) -> None:
    mailing_id, _ = await db.add_mailing_of(["pending"] * 3)
    await db.run("INSERT INTO mailing_throughput VALUES (:id, date_trunc('minute', now()), 10)", id=mailing_id)
    await db.run(held)
    found = await progress(db, mailing_id)
    assert (found.done_at, found.backlog) == (None, [BacklogItem(WaitReason.pause, 3)])


async def test_a_mailing_whose_plan_is_behind_says_so(db: Database) -> None:
    mailing_id = await db.add_mailing()
    await db.run("UPDATE mailing SET plan_revision = 2")
    assert (await progress(db, mailing_id)).planning


@pytest.mark.parametrize("status", ["finished", "cancelled"])
async def test_a_closed_mailing_waits_for_nothing(db: Database, status: str) -> None:
    mailing_id = await db.add_mailing(status=status)
    found = await progress(db, mailing_id)
    assert (found.backlog, found.per_minute, found.done_at) == ([], 0, None)


def test_the_end_is_not_before_the_last_opening() -> None:
    waits = [BacklogItem(WaitReason.rate, 5), BacklogItem(WaitReason.window, 5, NOON + timedelta(hours=4))]
    assert estimate_done_at(10, 100, waits, now=NOON) == NOON + timedelta(hours=4)
    assert estimate_done_at(10, 0, waits, now=NOON) is None
    assert estimate_done_at(0, 100, [], now=NOON) is None
