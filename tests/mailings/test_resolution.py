"""Resolving unknown messages."""

from typing import Any

import pytest

from mailing.messages.states import MessageStatus
from mailing.sending.finalize import settle_mailing
from support.answers import bad_fields, json_of
from support.api import Api
from support.database import Database


async def test_a_message_that_was_delivered_becomes_sent_and_says_who_said_so(db: Database, api: Api) -> None:
    mailing_id, (message_id,) = await db.add_audience(["unknown"], status="finished")
    answer = await api.post(f"/messages/{message_id}/resolve", json={"as": "sent", "note": "in the gateway's log"})
    found = json_of(answer)
    assert (found["status"], found["status_reason"], found["reason_code"]) == ("sent", None, None)
    assert found["sent_at"] is not None
    (resolution,) = found["resolutions"]
    assert resolution == {"at": resolution["at"], "by": "MAILING_API_KEY", "as": "sent", "note": "in the gateway's log"}
    assert json_of(await api.get(f"/messages/{message_id}/")) == found
    assert await db.statuses(mailing_id) == {"sent": 1}
    ids = "SELECT kind, mailing_id, message_id, client_id FROM event"
    client_id = await db.value("SELECT id FROM client")
    assert await db.run(ids) == [("message.resolved", mailing_id, message_id, client_id)]


async def test_a_message_that_was_not_delivered_becomes_failed_and_can_be_resent(db: Database, api: Api) -> None:
    mailing_id, (message_id,) = await db.add_audience(["unknown"])
    found = json_of(await api.post(f"/messages/{message_id}/resolve", json={"as": "failed"}))
    assert (found["status"], found["status_reason"]) == ("failed", "resolved as not delivered")
    assert found["resolutions"][0]["note"] is None
    assert json_of(await api.post(f"/mailings/{mailing_id}/resend-failed"))["resent"] == 1


@pytest.mark.parametrize(("status", "after"), [("running", "running"), ("paused", "paused"), ("finished", "running")])
async def test_a_message_sent_again_keeps_its_phone_and_words_and_its_mailing_goes_on(
    db: Database, api: Api, status: str, after: str
) -> None:
    mailing_id, (message_id,) = await db.add_audience(["unknown"], status=status)
    found = json_of(await api.post(f"/messages/{message_id}/resolve", json={"as": "pending"}))
    assert (found["id"], found["status"], found["phone"]) == (message_id, "pending", "79160000000")
    assert await db.value("SELECT maybe_accepted FROM message") is True
    assert json_of(await api.get(f"/mailings/{mailing_id}/"))["status"] == after
    assert "settle_mailing" in await db.jobs_of(mailing_id)
    await settle_mailing(db.sessions, mailing_id)
    assert await db.value("SELECT closes_at > now() FROM message") is True


async def test_all_unknown_messages_of_a_mailing_are_resolved_at_once(db: Database, api: Api) -> None:
    given = ["unknown", "unknown", "sent", "failed", "pending"]
    mailing_id, ids = await db.add_audience(given)
    other, _ = await db.add_audience(["unknown"])
    path = f"/mailings/{mailing_id}/resolve-unknown"
    assert json_of(await api.post(path, json={"as": "sent", "note": "x"}))["resolved"] == 2
    assert json_of(await api.post(path, json={"as": "sent"}))["resolved"] == 0
    assert await db.statuses(mailing_id) == {"sent": 3, "failed": 1, "pending": 1}
    assert await db.statuses(other) == {"unknown": 1}
    details = [(each, {"as": "sent", "note": "x"}) for each in ids[:2]]
    assert await db.run("SELECT message_id, detail FROM event ORDER BY message_id") == details


async def test_all_are_sent_again_but_to_clients_that_are_gone_or_opted_out_and_to_erased_phones(
    db: Database, api: Api
) -> None:
    mailing_id, ids = await db.add_audience(["unknown"] * 4, status="finished")
    await db.run("UPDATE message SET phone = NULL WHERE id = :id", id=ids[1])
    await db.run("UPDATE client SET opted_out = true WHERE id = (SELECT min(id) FROM client)")
    await db.run("DELETE FROM client WHERE id = (SELECT max(id) FROM client)")
    answer = json_of(await api.post(f"/mailings/{mailing_id}/resolve-unknown", json={"as": "pending"}))
    assert (answer["resolved"], answer["status"]) == (1, "running")
    assert await db.statuses(mailing_id) == {"unknown": 3, "pending": 1}
    for message_id in (ids[0], ids[1], ids[3]):
        refused = json_of(await api.post(f"/messages/{message_id}/resolve", json={"as": "pending"}), 409)
        assert refused["detail"] == (
            "This message can't be sent again: its client was deleted or has opted out, or its phone was erased. "
            "Resolve it as sent or failed."
        )
        json_of(await api.post(f"/messages/{message_id}/resolve", json={"as": "failed"}))


async def test_only_what_is_unknown_can_be_resolved(db: Database, api: Api) -> None:
    others = [status for status in MessageStatus if status is not MessageStatus.unknown]
    mailing_id, ids = await db.add_audience([*others])
    before = await db.statuses(mailing_id)
    for message_id, status in zip(ids, others, strict=True):
        for resolution in ("sent", "failed", "pending"):
            refused = json_of(await api.post(f"/messages/{message_id}/resolve", json={"as": resolution}), 409)
            assert refused["detail"] == f"Only an unknown message can be resolved; this one is {status}."
    assert await db.statuses(mailing_id) == before
    assert await db.events() == []


async def test_a_mailing_that_is_over_sends_nothing_again_but_what_became_of_its_messages_can_be_said(
    db: Database, api: Api
) -> None:
    for over in ("UPDATE mailing SET status = 'cancelled'", "UPDATE mailing SET ends_at = now()"):
        mailing_id, (first, _) = await db.add_audience(["unknown"] * 2)
        await db.run(f"{over} WHERE id = :id", id=mailing_id)
        for path in (f"/messages/{first}/resolve", f"/mailings/{mailing_id}/resolve-unknown"):
            assert "create a new one" in json_of(await api.post(path, json={"as": "pending"}), 409)["detail"]
        json_of(await api.post(f"/messages/{first}/resolve", json={"as": "sent"}))
        json_of(await api.post(f"/mailings/{mailing_id}/resolve-unknown", json={"as": "failed"}))
        assert await db.statuses(mailing_id) == {"sent": 1, "failed": 1}


BAD: list[tuple[dict[str, Any], set[str]]] = [
    ({}, {"as"}),
    ({"as": "unknown"}, {"as"}),
    ({"as": None}, {"as"}),
    ({"as_": "sent"}, {"as", "as_"}),
    ({"as": "sent", "note": "x" * 501}, {"note"}),
    ({"as": "sent", "note": "a\x00"}, {"note"}),
    ({"as": 5, "note": 5, "by": "me"}, {"as", "note", "by"}),
]


async def test_every_bad_field_of_a_resolution_is_named(db: Database, api: Api) -> None:
    mailing_id, (message_id,) = await db.add_audience(["unknown"])
    for body, named in BAD:
        for path in (f"/messages/{message_id}/resolve", f"/mailings/{mailing_id}/resolve-unknown"):
            assert set(bad_fields(await api.post(path, json=body))) == named
    assert await db.statuses(mailing_id) == {"unknown": 1}


async def test_what_never_was_or_is_deleted_cannot_be_resolved(db: Database, api: Api) -> None:
    mailing_id, (message_id,) = await db.add_audience(["unknown"])
    assert (await api.delete(f"/mailings/{mailing_id}/")).status_code == 204
    for path in (f"/messages/{message_id}/resolve", "/messages/99/resolve", f"/mailings/{mailing_id}/resolve-unknown"):
        json_of(await api.post(path, json={"as": "sent"}), 404)
