"""Workers that freeze, block, or wait for an answer that never comes: others go on, and so do they themselves."""

import asyncio
import signal
from collections import Counter
from pathlib import Path

import pytest

from support.campaign import Campaign, working
from support.database import Database
from support.faulty_worker import supervised_worker, worker
from support.processes import until
from support.proxy import proxy

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

USUAL = 30, 40  # seconds: the event loop's limit, the database's
HASTY = 5, 6
# The worker itself has recorded the first attempt, not the sweep.
REPORTED = "SELECT 1 FROM attempt WHERE number = 1 AND duration_ms IS NOT NULL"
# A worker's idle transaction locks messages. Found out without a lock: the claim would skip a locked row.
LOCKED = """
    SELECT 1 FROM pg_stat_activity JOIN pg_locks USING (pid)
    WHERE datname = current_database() AND application_name = 'mailing-worker' AND state = 'idle in transaction'
      AND relation = 'message'::regclass AND mode = 'RowExclusiveLock'"""


async def test_what_a_thawed_worker_reports_is_remembered_and_changes_nothing(
    campaign: Campaign, tmp_path: Path
) -> None:
    """It is frozen in a call for longer than all its limits; the other one has sent the message meanwhile."""
    await campaign.clients(1)
    await campaign.sandbox.behave(latency_s=2.0)
    async with worker(campaign.settings, tmp_path, *HASTY) as frozen:
        mailing = await campaign.mailing()
        await campaign.reaches(mailing, sending=1)
        await until(campaign.sandbox.ledger, every_s=0.1)
        await campaign.sandbox.behave()
        frozen.send_signal(signal.SIGSTOP)
        await campaign.db.run("UPDATE message SET lease_until = now() - interval '1 s'")
        async with worker(campaign.settings, tmp_path, *USUAL) as other:
            assert await campaign.finished(mailing) == {"planned": 1, "sent": 1}
            await asyncio.sleep(max(HASTY))
            assert not await campaign.db.run(REPORTED)
            frozen.send_signal(signal.SIGCONT)
            await campaign.until_found(REPORTED)
            other.send_signal(signal.SIGTERM)
            assert await other.wait() == 0
        assert await campaign.counts(mailing) == {"planned": 1, "sent": 1}
        assert await campaign.db.run("SELECT status, claim_no, counted_attempts FROM message") == [("sent", 2, 2)]
        assert len(await campaign.db.run("SELECT number FROM attempt WHERE number = 2 AND outcome = 'accepted'")) == 1
        assert await campaign.finished(await campaign.mailing()) == {"planned": 1, "sent": 1}
        frozen.send_signal(signal.SIGTERM)
        assert await frozen.wait() == 0


async def test_a_worker_frozen_in_a_transaction_frees_its_locks_for_the_others(
    campaign: Campaign, tmp_path: Path
) -> None:
    clients = await campaign.clients(50)
    mailing, _ = await campaign.db.add_mailing_of(["pending"] * 50, first_client=clients[0])
    async with worker(campaign.settings, tmp_path, *USUAL, "claim.inside", "freeze") as frozen:
        await campaign.until_found(LOCKED)
        async with campaign.working():
            assert await campaign.finished(mailing) == {"planned": 50, "sent": 50}
        frozen.send_signal(signal.SIGCONT)
        frozen.send_signal(signal.SIGTERM)
        assert await frozen.wait() == 0
    assert await campaign.db.run("SELECT count(*), max(number) FROM attempt") == [(50, 1)]


async def test_a_worker_whose_event_loop_is_blocked_ends_itself_and_is_started_again(
    campaign: Campaign, tmp_path: Path
) -> None:
    await campaign.clients(10)
    mailing = await campaign.mailing()
    async with supervised_worker(campaign.settings, tmp_path, *HASTY, "claim.before", "block") as said:
        await until(lambda: said, seconds=60)
        assert "exited with status 1; restarting now" in said[0]
    await campaign.db.run("UPDATE mailing SET plan_heartbeat_at = now() - interval '1 minute'")
    async with supervised_worker(campaign.settings, tmp_path, *USUAL):
        assert await campaign.finished(mailing) == {"planned": 10, "sent": 10}


async def test_a_worker_whose_connections_died_silently_works_again(campaign: Campaign, tmp_path: Path) -> None:
    """By itself, or by ending itself: what counts is that somebody sends."""
    await campaign.clients(10)
    async with proxy(campaign.settings) as (between, through), supervised_worker(through, tmp_path, *HASTY):
        assert await campaign.finished(await campaign.mailing()) == {"planned": 10, "sent": 10}
        between.freeze()
        mailing = await campaign.mailing()
        await asyncio.sleep(1.5 * max(HASTY))
        between.forget()
        assert await campaign.finished(mailing) == {"planned": 10, "sent": 10}


async def test_a_worker_sends_again_when_the_database_is_back(campaign: Campaign, tmp_path: Path) -> None:
    await campaign.clients(10)
    async with proxy(campaign.settings) as (between, through), supervised_worker(through, tmp_path, *HASTY) as said:
        assert await campaign.finished(await campaign.mailing()) == {"planned": 10, "sent": 10}
        await between.stop()
        await until(lambda: len(said) > 1, seconds=60)
        mailing = await campaign.mailing()
        await between.start()
        assert await campaign.finished(mailing) == {"planned": 10, "sent": 10}


async def test_a_row_that_somebody_holds_locked_stops_no_other_one(campaign: Campaign, db: Database) -> None:
    clients = await campaign.clients(10)
    mailing, (held, *_) = await db.add_mailing_of(["pending"] * 10, first_client=clients[0])
    async with db.engine.begin() as holder:
        await holder.exec_driver_sql(f"SELECT FROM message WHERE id = {held} FOR UPDATE")
        async with campaign.working():
            await campaign.reaches(mailing, sent=9)
            assert await db.run("SELECT id FROM message WHERE status = 'pending'") == [(held,)]
            await holder.rollback()
            assert await campaign.finished(mailing) == {"planned": 10, "sent": 10}


async def test_results_whose_acknowledgement_is_cut_off_are_recorded_once(campaign: Campaign) -> None:
    await campaign.clients(10)
    async with proxy(campaign.settings) as (between, through):
        between.cut_after = (b"INSERT INTO attempt", b"\x00\x00\x00\x08accepted")  # an outcome as the driver sends it
        async with working(through):
            mailing = await campaign.mailing()
            assert await campaign.finished(mailing) == {"planned": 10, "sent": 10}
        assert not between.cut_after
    assert Counter(item["id"] for item in await campaign.sandbox.ledger()) == dict.fromkeys(range(1, 11), 1)
    once = await campaign.db.run("SELECT count(*), count(DISTINCT message_id), max(number) FROM attempt")
    assert once == [(10, 10, 1)]


async def test_a_plan_whose_commit_is_cut_off_is_completed(campaign: Campaign) -> None:
    await campaign.clients(10)
    async with proxy(campaign.settings) as (between, through):
        between.cut_after = (b"INSERT INTO message AS m", b"COMMIT")
        async with working(through):
            mailing = await campaign.mailing()
            await until(lambda: not between.cut_after)
            await campaign.db.run("UPDATE mailing SET plan_heartbeat_at = now() - interval '1 minute'")
            assert await campaign.finished(mailing) == {"planned": 10, "sent": 10}
    assert Counter(item["id"] for item in await campaign.sandbox.ledger()) == dict.fromkeys(range(1, 11), 1)
