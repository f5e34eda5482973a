"""A mailing's whole life on a server whose settings would change what statements mean."""

import pytest

from mailing.settings import Settings
from support.campaign import Campaign, WorkerOf
from support.hostile_settings import make_hostile


@pytest.fixture
async def hostile(settings: Settings) -> Settings:
    """To be asked for first: what is connected already has its settings."""
    await make_hostile(str(settings.database_url))
    return settings


async def test_a_mailing_is_planned_edited_paused_and_sent_under_hostile_settings(
    hostile: Settings, campaign: Campaign, working: WorkerOf
) -> None:
    await campaign.clients(300, timezone="Europe/Moscow", tag="back\\slash")
    async with working(hostile), working(hostile):
        now, later = await campaign.mailing(), await campaign.mailing(starts_in_s=2)
        for action in ("pause", "resume"):
            assert (await campaign.api.post(f"/mailings/{now}/{action}")).status_code == 200
        assert (await campaign.api.patch(f"/mailings/{later}/", json={"text": "another"})).status_code == 200
        assert await campaign.finished(now) == await campaign.finished(later) == {"planned": 300, "sent": 300}
