"""The worker's part in an upload, with the worker itself."""

import asyncio
from pathlib import Path

import pytest

from support.campaign import Campaign
from support.faulty_worker import worker
from support.uploads import confirmed, file_of, upload_of

pytestmark = pytest.mark.slow

ALL_DONE = "SELECT 1 FROM upload HAVING bool_and(status = 'done')"
WAITS = """
    SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'mailing-worker'
      AND wait_event_type = 'Lock'"""


async def test_a_worker_imports_what_was_confirmed_and_takes_up_what_another_left(campaign: Campaign) -> None:
    left = await confirmed(campaign.db, file_of(10, bad=1))
    await campaign.db.run("UPDATE upload SET status = 'importing', attempts = 1, lease_until = now() - interval '1 s'")
    await campaign.db.run("DELETE FROM procrastinate_jobs")
    await confirmed(campaign.db, file_of(20))
    async with campaign.working():
        await campaign.until_found(ALL_DONE)
    assert (await upload_of(campaign.db, left)).rejected == 1
    assert await campaign.db.value("SELECT count(*) FROM client") == 20


@pytest.mark.timeout(300)
async def test_uploads_that_wait_for_a_lock_hold_neither_the_sending_back_nor_end_the_worker(
    campaign: Campaign, tmp_path: Path
) -> None:
    """More of them than a worker has connections, for longer than it goes without an answer of its database."""
    database_s = 6
    await campaign.clients(20, tag="sent to")
    locked = await campaign.db.add_client(phone="79160000000")
    for n in range(12):
        await confirmed(campaign.db, file_of(1), by=f"user {n} (anna)")
    async with worker(campaign.settings, tmp_path, 30, database_s) as process:
        async with campaign.db.holding(f"SELECT FROM client WHERE id = {locked} FOR UPDATE"):
            await campaign.until_found(WAITS)
            await asyncio.sleep(1.5 * database_s)
            mailing = await campaign.mailing(filter={"tags": ["sent to"]})
            assert await campaign.finished(mailing) == {"planned": 20, "sent": 20}
            assert process.returncode is None
        await campaign.until_found(ALL_DONE)
        assert process.returncode is None
