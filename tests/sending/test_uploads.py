"""The worker's part in an upload, with the worker itself."""

from clients.upload.uploading import confirmed, file_of, upload_of
from mailing.clients.upload.schemas import Status
from mailing.db import Sessions
from mailing.settings import Settings
from sending.conftest import Campaign, WorkerOf


async def test_a_worker_imports_what_was_confirmed_and_takes_up_what_another_left(
    campaign: Campaign, settings: Settings, sessions: Sessions, working: WorkerOf
) -> None:
    left = await confirmed(sessions, file_of(10, bad=1))
    await campaign.rows("""
        UPDATE upload SET status = 'importing', tries = 1, lease_until = now() - interval '1 s' RETURNING id""")
    await campaign.rows("DELETE FROM procrastinate_jobs RETURNING id")
    fresh = await confirmed(sessions, file_of(20))

    async def are_done() -> bool:
        return all([(await upload_of(sessions, upload_id)).status == Status.done for upload_id in (left, fresh)])

    async with working(settings):
        await campaign.until(are_done)
    assert (await upload_of(sessions, left)).rejected == 1
    assert len(await campaign.rows("SELECT id FROM client")) == 20
