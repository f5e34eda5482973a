"""What keeps the connections of one worker busy, and what that costs the database."""

import time
from collections import Counter
from collections.abc import Sequence

import pytest

from mailing.sending import context
from mailing.sending.send_loop import RECORD_EVERY_S
from support.campaign import Campaign
from support.query_plans import executed

pytestmark = pytest.mark.slow

PARTS = {
    "claim": "UPDATE message m SET\n        status = 'sending'",
    "record": "INSERT INTO attempt (message_id, mailing_id, number, started_at, duration_ms",
    "begin": "FROM mailing_text",
}


def parts(ran: Sequence[tuple[str, object]]) -> Counter[str]:
    """Count the statements of each part of the dispatch."""
    return Counter(part for statement, _ in ran for part, words in PARTS.items() if words in statement)


async def test_results_wait_for_each_other_and_are_recorded_together(campaign: Campaign) -> None:
    """However fast or slow the machine is: answers come one by one all the time, and one record takes many."""
    await campaign.clients(2000)
    await campaign.sandbox.behave(latency_s=0.05)
    with executed() as ran:
        async with campaign.working():
            began_at = time.monotonic()
            assert await campaign.finished(await campaign.mailing()) == {"planned": 2000, "sent": 2000}
            lasted_s = time.monotonic() - began_at
    count = parts(ran)
    assert 1 <= count["record"] <= lasted_s / RECORD_EVERY_S + count["begin"]
    assert count["claim"] <= 2000 / campaign.settings.gateway_concurrency + count["begin"] + 2


async def test_a_mailing_alone_goes_on_after_its_slice_without_waiting_for_its_calls(
    campaign: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(context, "SLICE_S", 0.05)
    await campaign.clients(400)
    await campaign.sandbox.behave(latency_s=0.05)
    with executed() as ran:
        async with campaign.working(gateway_concurrency=8):
            mailing = await campaign.mailing()
            await campaign.reaches(mailing, sent=20)
            before = len(ran)
            assert await campaign.finished(mailing) == {"planned": 400, "sent": 400}
    count = parts(ran[before:])
    assert count["claim"] >= 5, "there was more than one slice"
    assert count["begin"] <= 2


async def test_an_edit_ends_the_slice_and_what_waits_again_is_decided_by_the_new_rules(
    campaign: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(context, "SLICE_S", 0.05)
    await campaign.clients(300)
    await campaign.sandbox.behave(latency_s=0.05, error_500=0.2, seed=5)
    async with campaign.working(gateway_concurrency=8):
        mailing = await campaign.mailing()
        await campaign.reaches(mailing, sent=20)
        (await campaign.api.patch(f"/mailings/{mailing}/", json={"text": "second"})).raise_for_status()
        assert await campaign.finished(mailing) == {"planned": 300, "sent": 300}
    assert {item["text"] for item in await campaign.sandbox.ledger()} == {"hello", "second"}
