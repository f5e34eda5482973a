"""The life of a mailing, seen from the API and from the gateway's own ledger."""

from datetime import UTC, datetime, timedelta

import pytest

from support.answers import json_of
from support.campaign import Campaign
from support.mailing_requests import open_for

pytestmark = pytest.mark.slow


async def test_a_mailing_whose_start_has_passed_is_sent_at_once_and_each_message_once(campaign: Campaign) -> None:
    await campaign.clients(300)
    async with campaign.working():
        mailing = await campaign.mailing(text="привет")
        assert await campaign.finished(mailing) == {"planned": 300, "sent": 300}
    ledger, messages = await campaign.sandbox.ledger(), await campaign.messages(mailing)
    assert [
        (item["id"], item["phone"], item["text"], item["repeats"]) for item in sorted(ledger, key=lambda i: i["id"])
    ] == [(message["id"], int(message["phone"]), "привет", 0) for message in messages]
    assert {(message["attempts"], message["waiting_for"]) for message in messages} == {(1, None)}


async def test_a_mailing_starts_by_itself_at_its_time_and_not_before(campaign: Campaign) -> None:
    await campaign.clients(20)
    async with campaign.working():
        starts_at = datetime.now(UTC) + timedelta(seconds=2)
        mailing = await campaign.mailing(starts_in_s=2)
        assert (await campaign.statistics(mailing))["launched"] is False
        assert await campaign.finished(mailing) == {"planned": 20, "sent": 20}
    began = [datetime.fromisoformat(item["at"]) for item in await campaign.sandbox.ledger()]
    assert min(began) >= starts_at - timedelta(milliseconds=50)


async def test_a_filter_selects_by_tag_and_operator_and_an_opted_out_client_gets_nothing(campaign: Campaign) -> None:
    vips = await campaign.clients(3, tag="vip")
    await campaign.clients(3, tag="new")
    await campaign.db.run("UPDATE client SET opted_out = true WHERE id = :id", id=vips[0])
    async with campaign.working():
        mailing = await campaign.mailing(filter={"tags": ["vip"], "operator_codes": ["916"]})
        nobody = await campaign.mailing(filter={"tags": ["vip"], "operator_codes": ["917"]})
        assert await campaign.finished(mailing) == {"planned": 2, "sent": 2}
        assert await campaign.finished(nobody) == {}
    assert {message["client_id"] for message in await campaign.messages(mailing)} == set(vips[1:])


async def test_whoever_is_outside_the_window_waits_until_it_opens_in_their_zone(campaign: Campaign) -> None:
    """Etc/GMT-6 is six hours ahead of UTC: the window is open here, and over there it opens in about 17 hours."""
    here = await campaign.clients(5, timezone="UTC")
    there = await campaign.clients(5, timezone="Etc/GMT-6")
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    async with campaign.working():
        mailing = await campaign.mailing(lasts_s=3 * 86400, local_window=open_for(2, now=now))
        await campaign.reaches(mailing, sent=5)
    messages = {message["client_id"]: message for message in await campaign.messages(mailing)}
    assert {messages[client]["status"] for client in here} == {"sent"}
    opens_at = (now + timedelta(hours=17)).isoformat().replace("+00:00", "Z")
    assert [messages[client]["waiting_for"] for client in there] == [{"reason": "window", "until": opens_at}] * 5
    assert len(await campaign.sandbox.ledger()) == 5


async def test_a_message_without_an_opening_before_the_end_expires_at_once_with_its_reason(campaign: Campaign) -> None:
    await campaign.clients(4, timezone="Etc/GMT-6")
    window = open_for(2)
    async with campaign.working():
        mailing = await campaign.mailing(lasts_s=3600, local_window=window)
        assert await campaign.finished(mailing) == {"planned": 4, "expired": 4}
    reasons = {message["status_reason"] for message in await campaign.messages(mailing)}
    assert reasons == {
        f"no time within {window['start']}-{window['end']} in Etc/GMT-6 is left before the mailing's end"
    }
    assert await campaign.sandbox.ledger() == []


async def test_when_the_end_passes_while_messages_wait_no_call_follows_and_all_expire(campaign: Campaign) -> None:
    await campaign.clients(200)
    await campaign.sandbox.behave(throttle_429=1.0, retry_after_s=0)
    async with campaign.working():
        ends_at = datetime.now(UTC) + timedelta(seconds=2)
        mailing = await campaign.mailing(lasts_s=2)
        assert await campaign.finished(mailing) == {"planned": 200, "expired": 200}
    reasons = {message["status_reason"].partition(";")[0] for message in await campaign.messages(mailing)}
    assert reasons == {"the mailing's end was reached"}
    late = "SELECT count(*) FROM attempt WHERE started_at >= :ends_at"
    assert await campaign.db.run(late, ends_at=ends_at + timedelta(milliseconds=50)) == [(0,)]
    assert await campaign.sandbox.ledger() == []


async def test_a_call_that_may_have_arrived_leaves_unknown_at_the_end_and_never_expired(campaign: Campaign) -> None:
    await campaign.clients(30)
    await campaign.sandbox.behave(error_500=1.0)
    async with campaign.working():
        mailing = await campaign.mailing()
        await campaign.until_found("SELECT 1 FROM attempt WHERE outcome = 'ambiguous'")
        ends_at = datetime.now(UTC) + timedelta(seconds=5)
        json_of(await campaign.api.patch(f"/mailings/{mailing}/", json={"ends_at": ends_at.isoformat()}))
        await campaign.finished(mailing)
    ends = await campaign.db.run("SELECT DISTINCT status, maybe_accepted FROM message")
    assert ("unknown", True) in ends
    assert set(ends) <= {("unknown", True), ("expired", False)}


@pytest.mark.parametrize("is_paused", [False, True], ids=["without a worker", "in a pause"])
async def test_a_mailing_whose_whole_time_passed_expires_when_a_worker_comes(
    campaign: Campaign, *, is_paused: bool
) -> None:
    await campaign.clients(10)
    mailing = await campaign.mailing()
    if is_paused:
        assert (await campaign.api.post(f"/mailings/{mailing}/pause")).status_code == 200
    await campaign.db.run("UPDATE mailing SET ends_at = now()")
    async with campaign.working():
        assert await campaign.finished(mailing) == {"planned": 10, "expired": 10}
    assert {message["status_reason"] for message in await campaign.messages(mailing)} == {
        "the mailing's end was reached"
    }
    assert await campaign.sandbox.ledger() == []


async def test_an_edit_replans_the_unsent_and_never_touches_what_went_out(campaign: Campaign) -> None:
    old, new = await campaign.clients(300, tag="old"), await campaign.clients(50, tag="new")
    async with campaign.working(gateway_rate=20):
        mailing = await campaign.mailing(text="first", filter={"tags": ["old"]})
        await campaign.reaches(mailing, sent=1)
        await campaign.api.patch(f"/mailings/{mailing}/", json={"text": "second", "filter": {"tags": ["new"]}})
        await campaign.api.patch("/gateway/", json={"rate": 0})
        counts = await campaign.finished(mailing)
    messages = await campaign.messages(mailing)
    sent = {message["client_id"] for message in messages if message["status"] == "sent"}
    cancelled = [message for message in messages if message["status"] == "cancelled"]
    assert set(new) <= sent
    assert counts["planned"] == 350
    assert {message["client_id"] for message in cancelled} == set(old) - sent != set()
    assert {message["status_reason"] for message in cancelled} <= {
        "an edit of the mailing no longer selects this client"
    }
    texts = {item["id"]: item["text"] for item in await campaign.sandbox.ledger()}
    assert {texts[message["id"]] for message in messages if message["client_id"] in new} == {"second"}


async def test_a_client_that_opts_out_or_goes_while_its_message_waits_gets_no_call(campaign: Campaign) -> None:
    clients = await campaign.clients(3)
    mailing = await campaign.mailing(starts_in_s=2)
    async with campaign.working():
        assert (await campaign.api.patch(f"/clients/{clients[0]}/", json={"opted_out": True})).status_code == 200
        await campaign.sandbox.behave(throttle_429=1.0, retry_after_s=1)
        await campaign.reaches(mailing, planned=2)
        assert (await campaign.api.patch(f"/clients/{clients[1]}/", json={"opted_out": True})).status_code == 200
        cancelled = "SELECT 1 FROM message WHERE client_id = :id AND status = 'cancelled'"
        await campaign.until_found(cancelled, id=clients[1])
        await campaign.sandbox.behave()
        counts = await campaign.finished(mailing)
    assert counts == {"planned": 2, "sent": 1, "cancelled": 1}
    assert [item["id"] for item in await campaign.sandbox.ledger()] == [
        message["id"] for message in await campaign.messages(mailing) if message["client_id"] == clients[2]
    ]
