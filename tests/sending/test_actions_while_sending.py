"""What is asked for while workers send; the ledger of the gateway is the witness."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from support.campaign import Campaign, Sandbox
from support.commands import worker_process

pytestmark = pytest.mark.slow

CONCURRENCY = 16
MOST_OF_ONE = 2 * CONCURRENCY  # messages that one worker holds: half of them in a call, half waiting for its end
BOTH_SEND = f"SELECT 1 FROM message WHERE status = 'sending' HAVING count(*) > {MOST_OF_ONE}"
SILENCE = "SELECT 1 FROM message WHERE status = 'sending' HAVING count(*) = 0"
LATENCY_S = 4.0  # of the sandbox, which notes a call at once and answers late: whoever waits is long past the limit
AT_MOST = timedelta(seconds=1 + 1.5)  # the promise, and what a busy machine may need to bring a call to the sandbox


@asynccontextmanager
async def two_workers(campaign: Campaign, directory: Path) -> AsyncIterator[None]:
    """Use few connections, so that many messages are claimed and wait for a call."""
    each = replace(campaign.settings, gateway_concurrency=CONCURRENCY)
    async with worker_process(each, directory), worker_process(each, directory):
        await campaign.until_found("SELECT 1 FROM procrastinate_workers HAVING count(*) = 2")
        yield


@pytest.mark.timeout(300)  # each step has its own limit
async def test_pause_resume_and_cancel_reach_two_workers_within_a_second(campaign: Campaign, tmp_path: Path) -> None:
    await campaign.clients(4000)
    await campaign.sandbox.behave(latency_s=LATENCY_S)
    async with two_workers(campaign, tmp_path):
        mailing = await campaign.mailing()
        await campaign.until_found(BOTH_SEND)
        paused = await _answered(campaign, "POST", f"/mailings/{mailing}/pause")
        await campaign.until_found(SILENCE)
        before = await campaign.sandbox.ledger()
        await _answered(campaign, "POST", f"/mailings/{mailing}/resume")
        await campaign.until_found(BOTH_SEND)
        cancelled = await _answered(campaign, "POST", f"/mailings/{mailing}/cancel")
        await campaign.until_found(SILENCE)
    after = await campaign.sandbox.ledger()
    assert [item for item in before if _at(item) > paused + AT_MOST] == []
    assert [item for item in after if _at(item) > cancelled + AT_MOST] == []
    assert {item["repeats"] for item in after} == {0}
    counts = await campaign.counts(mailing)
    assert len(before) < counts["sent"] == len(after) == 4000 - counts["cancelled"]


@pytest.mark.timeout(300)  # each step has its own limit
async def test_an_opt_out_another_text_and_a_deletion_reach_two_workers_within_a_second(
    campaign: Campaign, tmp_path: Path
) -> None:
    await campaign.clients(4000)
    await campaign.sandbox.behave(latency_s=LATENCY_S)
    async with two_workers(campaign, tmp_path):
        mailing = await campaign.mailing(text="first")
        await campaign.until_found(BOTH_SEND)
        newest = await campaign.db.run("SELECT id, client_id FROM message WHERE claim_no > 0 ORDER BY id DESC LIMIT 8")
        opted_out = {
            row.id: await _answered(campaign, "PATCH", f"/clients/{row.client_id}/", json={"opted_out": True})
            for row in newest
        }
        edited = await _answered(campaign, "PATCH", f"/mailings/{mailing}/", json={"text": "second"})
        await campaign.until(lambda: _accepted(campaign.sandbox, "second"))
        await campaign.until_found(BOTH_SEND)
        deleted = await _answered(campaign, "DELETE", f"/mailings/{mailing}/")
        await campaign.until_found(SILENCE)
    ledger = await campaign.sandbox.ledger()
    assert [item for item in ledger if item["id"] in opted_out and _at(item) > opted_out[item["id"]] + AT_MOST] == []
    assert [item for item in ledger if item["text"] == "first" and _at(item) > edited + AT_MOST] == []
    assert [item for item in ledger if _at(item) > deleted + AT_MOST] == []
    assert {item["repeats"] for item in ledger} == {0}


async def test_what_failed_is_sent_again_with_its_id_and_its_history_goes_on(campaign: Campaign) -> None:
    clients = await campaign.clients(20)
    await campaign.sandbox.behave(refuse_400=1.0)
    async with campaign.working():
        mailing = await campaign.mailing()
        assert await campaign.finished(mailing) == {"planned": 20, "failed": 20}
        await campaign.sandbox.behave()
        assert (await campaign.api.patch(f"/clients/{clients[0]}/", json={"opted_out": True})).status_code == 200
        answer = (await campaign.api.post(f"/mailings/{mailing}/resend-failed")).json()
        assert (answer["resent"], answer["status"]) == (19, "running")
        assert await campaign.finished(mailing) == {"planned": 20, "sent": 19, "failed": 1}
    sent = [message["id"] for message in await campaign.messages(mailing) if message["status"] == "sent"]
    assert sorted(item["id"] for item in await campaign.sandbox.ledger()) == sent
    story = (await campaign.api.get(f"/messages/{sent[0]}/")).json()
    assert [attempt["outcome"] for attempt in story["history"]] == ["refused", "accepted"]


async def test_a_test_is_sent_at_once_while_its_mailing_is_not_and_takes_the_same_way(campaign: Campaign) -> None:
    await campaign.clients(1)
    phone = await campaign.db.value("SELECT phone FROM client")
    await campaign.sandbox.behave(error_500=1.0)
    async with campaign.working():
        mailing = await campaign.mailing(starts_in_s=3600, lasts_s=7200, text="to be tested")
        message = (await campaign.api.post(f"/mailings/{mailing}/test", json={"phone": phone})).json()["id"]
        await campaign.until_found("SELECT 1 FROM message WHERE id = :id AND counted_attempts >= 2", id=message)
        await campaign.sandbox.behave()
        await campaign.until_found("SELECT 1 FROM message WHERE id = :id AND status = 'sent'", id=message)
    assert [(item["id"], item["phone"], item["text"]) for item in await campaign.sandbox.ledger()] == [
        (message, int(phone), "to be tested")
    ]
    assert await campaign.counts(mailing) == {}


async def test_an_unknown_message_that_is_sent_again_arrives_under_its_id_and_with_its_words(
    campaign: Campaign,
) -> None:
    await campaign.clients(3)
    await campaign.sandbox.behave(error_500=1.0)
    async with campaign.working(on_unknown="hold"):
        mailing = await campaign.mailing(text="as it was")
        assert await campaign.finished(mailing) == {"planned": 3, "unknown": 3}
        await campaign.sandbox.behave()
        one, *others = [message["id"] for message in await campaign.messages(mailing)]
        assert (await campaign.api.post(f"/messages/{one}/resolve", json={"as": "pending"})).status_code == 200
        assert await campaign.finished(mailing) == {"planned": 3, "sent": 1, "unknown": 2}
        answer = await campaign.api.post(f"/mailings/{mailing}/resolve-unknown", json={"as": "pending"})
        assert answer.json()["resolved"] == 2
        assert await campaign.finished(mailing) == {"planned": 3, "sent": 3}
    ledger = await campaign.sandbox.ledger()
    assert {item["id"] for item in ledger} == {one, *others}
    assert {item["text"] for item in ledger} == {"as it was"}


async def _answered(campaign: Campaign, method: str, path: str, **body: Any) -> datetime:  # noqa: ANN401 - JSON
    answer = await campaign.api.request(method, path, **body)
    assert answer.is_success, answer.text
    return datetime.now(UTC)


async def _accepted(sandbox: Sandbox, text: str) -> bool:
    return any(item["text"] == text for item in await sandbox.ledger())


def _at(item: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(item["at"])
