"""Pause, cancel and resend-failed: the counts in the answers, and the messages in the database."""

import pytest

from mailing.mailings.actions import MAX_CANCELLED_AT_ONCE
from mailing.mailings.repository import finish
from mailing.sending.finalize import settle_mailing
from support.answers import json_of
from support.api import Api
from support.database import Database

UNSENT = ["pending", "pending", "pending", "sending", "sent", "failed", "unknown", "expired"]


async def test_a_pause_and_a_cancel_say_how_many_messages_they_stop(db: Database, api: Api) -> None:
    mailing_id, _ = await db.add_audience(UNSENT)
    assert json_of(await api.post(f"/mailings/{mailing_id}/pause"))["stopped"] == 3
    assert json_of(await api.post(f"/mailings/{mailing_id}/pause"))["stopped"] == 3, "still held back"
    cancelled = json_of(await api.post(f"/mailings/{mailing_id}/cancel"))
    assert (cancelled["status"], cancelled["stopped"]) == ("cancelled", 3)
    assert json_of(await api.post(f"/mailings/{mailing_id}/cancel"))["stopped"] == 0, "nothing was left"
    assert await db.statuses(mailing_id) == {"cancelled": 3} | dict.fromkeys(UNSENT[3:], 1)
    assert [(kind, detail) for kind, _, _, detail in await db.events()] == [
        ("mailing.paused", {"stopped": 3}),
        ("mailing.cancelled", {"stopped": 3}),
    ]


async def test_where_nothing_is_planned_yet_nothing_is_stopped(db: Database, api: Api) -> None:
    scheduled = await db.add_mailing(status="scheduled")
    assert json_of(await api.post(f"/mailings/{scheduled}/cancel"))["stopped"] == 0
    assert await db.jobs_of(scheduled) == set()


async def test_a_cancel_of_very_many_counts_all_and_leaves_the_rest_to_a_worker(db: Database, api: Api) -> None:
    mailing_id, _ = await db.add_mailing_of(["pending"] * (MAX_CANCELLED_AT_ONCE + 7))
    assert json_of(await api.post(f"/mailings/{mailing_id}/cancel"))["stopped"] == MAX_CANCELLED_AT_ONCE + 7
    assert await db.statuses(mailing_id) == {"cancelled": MAX_CANCELLED_AT_ONCE, "pending": 7}
    assert await db.jobs_of(mailing_id) == {"settle_mailing"}
    await settle_mailing(db.sessions, mailing_id)
    assert await db.statuses(mailing_id) == {"cancelled": MAX_CANCELLED_AT_ONCE + 7}


async def test_a_message_that_is_just_being_claimed_neither_delays_a_cancel_nor_escapes_it(
    db: Database, api: Api
) -> None:
    mailing_id, (claimed, _) = await db.add_audience(["pending"] * 2)
    async with db.engine.connect() as worker, worker.begin():
        await worker.exec_driver_sql(f"SELECT FROM message WHERE id = {claimed} FOR UPDATE")
        assert json_of(await api.post(f"/mailings/{mailing_id}/cancel"))["stopped"] == 2
    assert await db.statuses(mailing_id) == {"cancelled": 1, "pending": 1}
    await settle_mailing(db.sessions, mailing_id)
    assert await db.statuses(mailing_id) == {"cancelled": 2}


async def test_a_mailing_is_not_finished_while_somebody_sends_its_messages_again(db: Database) -> None:
    mailing_id, _ = await db.add_audience(["failed"])
    async with db.engine.connect() as somebody, somebody.begin():
        await somebody.exec_driver_sql("SELECT FROM mailing FOR UPDATE")
        await somebody.exec_driver_sql("UPDATE message SET status = 'pending', finished_at = NULL")
        assert await db.commit(finish, mailing_id) is False
    assert await db.commit(finish, mailing_id) is False
    assert await db.value("SELECT status FROM mailing") == "running"


# --- resend-failed --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("status", "after"), [("running", "running"), ("paused", "paused"), ("finished", "running")])
async def test_failed_messages_are_pending_again_with_their_ids_and_attempts(
    db: Database, api: Api, status: str, after: str
) -> None:
    mailing_id, ids = await db.add_audience(["failed", "failed", "sent", "unknown", "cancelled"], status=status)
    await db.run(
        "UPDATE message SET soft_refusals = 5, counted_attempts = 6, reason_code = 'not_json' WHERE status = 'failed'"
    )
    await db.run("UPDATE mailing SET finished_at = now() WHERE status = 'finished'")
    answer = json_of(await api.post(f"/mailings/{mailing_id}/resend-failed"))
    assert (answer["resent"], answer["status"]) == (2, after)
    assert json_of(await api.get(f"/mailings/{mailing_id}/"))["status"] == after
    assert "settle_mailing" in await db.jobs_of(mailing_id)
    await settle_mailing(db.sessions, mailing_id)
    again = await db.run(
        """SELECT id, counted_attempts, soft_refusals, reason_code, closes_at > now() AS opens FROM message
        WHERE status = 'pending' ORDER BY id"""
    )
    assert again == [(each, 6, 0, "not_json", True) for each in ids[:2]]
    assert await db.statuses(mailing_id) == {"pending": 2, "sent": 1, "unknown": 1, "cancelled": 1}
    assert await db.value("SELECT finished_at FROM mailing") is None
    assert await db.events() == [("mailing.resent", "MAILING_API_KEY", mailing_id, {"resent": 2})]


async def test_where_nothing_failed_nothing_is_resent_and_nothing_changes(db: Database, api: Api) -> None:
    mailing_id, _ = await db.add_audience(["failed", "sent"], status="finished")
    assert json_of(await api.post(f"/mailings/{mailing_id}/resend-failed"))["resent"] == 1
    assert json_of(await api.post(f"/mailings/{mailing_id}/resend-failed"))["resent"] == 0
    other, _ = await db.add_audience(["sent"], status="finished")
    answer = json_of(await api.post(f"/mailings/{other}/resend-failed"))
    assert (answer["resent"], answer["status"]) == (0, "finished")
    assert len(await db.events()) == 1
    assert await db.jobs_of(other) == set()


async def test_a_client_that_is_gone_or_has_opted_out_is_not_resent(db: Database, api: Api) -> None:
    mailing_id, _ = await db.add_audience(["failed"] * 3)
    clients = [each.id for each in await db.run("SELECT id FROM client ORDER BY id")]
    json_of(await api.patch(f"/clients/{clients[0]}/", json={"opted_out": True}))
    assert (await api.delete(f"/clients/{clients[1]}/")).status_code == 204
    assert json_of(await api.post(f"/mailings/{mailing_id}/resend-failed"))["resent"] == 1
    assert await db.statuses(mailing_id) == {"failed": 2, "pending": 1}


async def test_nothing_is_resent_before_the_start_after_a_cancel_or_past_the_end(db: Database, api: Api) -> None:
    refused = {
        "scheduled": "This mailing has not started, so there is nothing to send again; wait for its start.",
        "cancelled": "A cancelled mailing can't send again; create a new one.",
    }
    for status, remedy in refused.items():
        mailing_id, _ = await db.add_audience(["failed"], status=status)
        assert json_of(await api.post(f"/mailings/{mailing_id}/resend-failed"), 409)["detail"] == remedy
    for status in ("running", "paused", "finished"):
        mailing_id, _ = await db.add_audience(["failed"], status=status)
        await db.run("UPDATE mailing SET ends_at = now() WHERE id = :id", id=mailing_id)
        remedy = "The end of this mailing has passed; create a new one for the clients it did not reach."
        assert json_of(await api.post(f"/mailings/{mailing_id}/resend-failed"), 409)["detail"] == remedy
        assert await db.statuses(mailing_id) == {"failed": 1}
    assert await db.events() == []
