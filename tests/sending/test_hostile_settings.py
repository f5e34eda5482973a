"""A mailing's whole life on a server whose settings would change what statements mean."""

import pytest

from support.campaign import Campaign
from support.hostile_settings import make_hostile


@pytest.fixture(autouse=True)
async def _hostile(database_url: str) -> None:
    """Before all other fixtures: what is connected already has its settings."""
    await make_hostile(database_url)


async def test_a_mailing_is_planned_edited_paused_and_sent_under_hostile_settings(campaign: Campaign) -> None:
    await campaign.clients(300, timezone="Europe/Moscow", tag="back\\slash")
    async with campaign.working(), campaign.working():
        now, later = await campaign.mailing(), await campaign.mailing(starts_in_s=2)
        for action in ("pause", "resume"):
            assert (await campaign.api.post(f"/mailings/{now}/{action}")).status_code == 200
        assert (await campaign.api.patch(f"/mailings/{later}/", json={"text": "another"})).status_code == 200
        assert await campaign.finished(now) == await campaign.finished(later) == {"planned": 300, "sent": 300}
