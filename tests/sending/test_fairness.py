"""A huge mailing leaves room for a small one."""

import pytest
from msgspec.structs import replace

from mailing.settings import Settings
from sending.conftest import Campaign, Sandbox, WorkerOf


@pytest.mark.parametrize("rate", [0, 200])
async def test_a_small_mailing_is_done_while_a_huge_one_has_hardly_begun(
    campaign: Campaign, sandbox: Sandbox, settings: Settings, working: WorkerOf, rate: float
) -> None:
    """Both are due at every moment, so the small one's share is what the order of claims gives it."""
    await campaign.clients(20_000, tag="many")
    await campaign.clients(100, tag="few")
    await sandbox.behave(latency_s=0.1)
    async with working(replace(settings, gateway_rate=rate)):
        huge = await campaign.mailing(filter={"tags": ["many"]})
        await campaign.until(lambda: _begun(campaign, huge))
        urgent = await campaign.mailing(filter={"tags": ["few"]})
        assert await campaign.finished(urgent) == {"planned": 100, "sent": 100}
        before = await campaign.rows(
            """SELECT count(*) AS calls FROM attempt a JOIN message m ON m.id = a.message_id WHERE m.mailing_id = :huge
               AND a.started_at BETWEEN (SELECT created_at FROM mailing WHERE id = :urgent)
                   AND (SELECT max(finished_at) FROM message WHERE mailing_id = :urgent)""",
            huge=huge,
            urgent=urgent,
        )
    assert before[0].calls <= 1500


async def _begun(campaign: Campaign, mailing: int) -> bool:
    return (await campaign.counts(mailing)).get("sent", 0) >= 200
