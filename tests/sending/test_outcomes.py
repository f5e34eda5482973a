"""What the gateway answers, and what becomes of the messages: statuses are true and statistics exact."""

from collections import Counter

import pytest

from mailing.reasons.codes import ReasonCode
from support.campaign import Campaign

pytestmark = pytest.mark.slow

ROWS = """
    SELECT status, count(*) FROM message WHERE mailing_id = :id GROUP BY status
    UNION ALL SELECT 'planned', count(*) FROM message WHERE mailing_id = :id
"""


async def test_after_every_kind_of_answer_the_statuses_are_true_and_the_statistics_equal_the_rows(
    campaign: Campaign,
) -> None:
    await campaign.clients(500)
    usual = dict.fromkeys(("error_500", "throttle_429", "refuse_400", "garbage", "accept_then_drop", "drop"), 0.05)
    await campaign.sandbox.behave(**usual, soft_refusal=0.1, invalid_http=0.02, hang=0.01, retry_after_s=0, seed=7)
    async with campaign.working(gateway_timeout_s=1.0):
        mailing = await campaign.mailing()
        counts = await campaign.finished(mailing)
    rows = dict(await campaign.db.run(ROWS, id=mailing))
    assert counts == rows
    overall = (await campaign.api.get("/statistics/")).json()
    assert {name: count for name, count in overall["messages"].items() if count} == counts

    accepted = Counter(item["id"] for item in await campaign.sandbox.ledger())
    attempts = await campaign.db.run("SELECT message_id, outcome FROM attempt ORDER BY message_id, number")
    ambiguous = {message_id for message_id, outcome in attempts if outcome == "ambiguous"}
    by_status = {message["id"]: message["status"] for message in await campaign.messages(mailing)}
    assert len(by_status) == 500
    assert set(by_status.values()) >= {"sent", "failed"}
    assert [id_ for id_, status in by_status.items() if status == "sent" and not accepted[id_]] == []
    assert [id_ for id_, status in by_status.items() if status == "failed" and accepted[id_]] == []
    assert [id_ for id_, times in accepted.items() if times > 1 and id_ not in ambiguous] == []


async def test_a_gateway_that_is_down_then_fails_then_talks_nonsense_then_works_gets_every_message_once(
    campaign: Campaign,
) -> None:
    """The breaker opens in the first second; what the gateway says afterwards is seen by its probes alone."""
    await campaign.clients(150)
    tried = "SELECT 1 FROM attempt WHERE outcome = 'ambiguous' AND reason_code = :reason"

    async def change(**behaviour: object) -> None:
        """Let a probe see it at once."""
        await campaign.sandbox.behave(**behaviour)
        assert (await campaign.api.post("/gateway/probe")).is_success

    async with campaign.working():
        await campaign.sandbox.behave(down=True)
        mailing = await campaign.mailing()
        await campaign.until_found("SELECT 1 FROM gateway WHERE breaker_opened_at IS NOT NULL")
        await change(error_500=1.0)
        await campaign.until_found(tried, reason=ReasonCode.http_status)
        assert set(await campaign.counts(mailing)) <= {"planned", "pending", "sending"}
        await change(garbage=1.0)
        await campaign.until_found(tried, reason=ReasonCode.html)
        assert set(await campaign.counts(mailing)) <= {"planned", "pending", "sending"}
        assert await campaign.sandbox.ledger() == []
        await change()
        assert await campaign.finished(mailing) == {"planned": 150, "sent": 150}
    assert Counter(item["id"] for item in await campaign.sandbox.ledger()) == Counter(
        message["id"] for message in await campaign.messages(mailing)
    )


async def test_with_hold_a_call_that_may_have_arrived_is_not_repeated(campaign: Campaign) -> None:
    await campaign.clients(40)
    await campaign.sandbox.behave(accept_then_drop=0.5, seed=3)
    async with campaign.working(on_unknown="hold"):
        mailing = await campaign.mailing()
        counts = await campaign.finished(mailing)
    assert counts["sent"] + counts["unknown"] == 40
    assert [item["repeats"] for item in await campaign.sandbox.ledger()] == [0] * 40


async def test_a_gateway_that_recognises_ids_never_delivers_one_twice(campaign: Campaign) -> None:
    await campaign.clients(40)
    await campaign.sandbox.behave(accept_then_drop=0.4, seed=3, recognises_ids=True)
    async with campaign.working():
        mailing = await campaign.mailing()
        assert await campaign.finished(mailing) == {"planned": 40, "sent": 40}
    assert [item["repeats"] for item in await campaign.sandbox.ledger()] == [0] * 40


async def test_five_soft_refusals_are_a_failure(campaign: Campaign) -> None:
    await campaign.clients(5)
    await campaign.sandbox.behave(soft_refusal=1.0)
    async with campaign.working():
        mailing = await campaign.mailing()
        assert await campaign.finished(mailing) == {"planned": 5, "failed": 5}
    first = (await campaign.messages(mailing))[0]["id"]
    story = (await campaign.api.get(f"/messages/{first}/")).json()
    assert [attempt["outcome"] for attempt in story["history"]] == ["soft_refusal"] * 5
    assert story["attempts"] == 5
