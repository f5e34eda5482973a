"""Whatever people do while a mailing is planned: nobody is lost, and nobody is called who should not be."""

import pytest

from sending.random_changes import play
from support.campaign import Campaign

pytestmark = pytest.mark.slow

ROUNDS = 25


async def test_clients_and_mailing_change_at_random_moments_of_a_plan(campaign: Campaign) -> None:
    async with campaign.working():
        for seed in range(2):
            await play(campaign, clients=600, changes=100, seed=seed)


@pytest.mark.heavy
@pytest.mark.timeout(1800)  # 8 s a round on a quiet machine
@pytest.mark.parametrize("first", range(2, 202, ROUNDS))
async def test_clients_and_mailing_change_at_random_moments_of_two_hundred_plans(
    campaign: Campaign, first: int
) -> None:
    async with campaign.working():
        for seed in range(first, first + ROUNDS):
            await play(campaign, clients=5_000, changes=300, seed=seed)
