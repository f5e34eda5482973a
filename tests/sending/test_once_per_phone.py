"""A phone gets a mailing once, whatever clients have it one after the other."""

import asyncio
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from mailing.database.engine import transaction
from mailing.messages.claim import claim
from mailing.messages.locks import lock_for_plan
from mailing.messages.rescheduling import SendWindow, reschedule_closed
from mailing.privacy.erasure import allow_again, erase
from mailing.privacy.repository import redact_mailing
from mailing.sending.finalize import settle_mailing
from mailing.sending.plan import plan_mailing
from support.api import Api
from support.campaign import Campaign
from support.client_requests import created
from support.database import LOCK_WAITS, PLAN_LOCK_WAITS, Database
from support.mailing_requests import in_hours, open_for
from support.query_plans import nodes, plans

ONE, OTHER, THIRD = "79161234567", "79161234568", "79161234569"
END = """
    UPDATE message SET status = :status, phone = :phone, text_revision = 1, counted_attempts = 1, claim_no = 1,
        maybe_accepted = :status IN ('unknown', 'pending'),
        lease_until = CASE :status WHEN 'sending' THEN now() + interval '1 min' END,
        finished_at = CASE WHEN :status NOT IN ('sending', 'pending') THEN now() END
    WHERE client_id = :client_id"""
MESSAGES = "SELECT client_id, status, reason_code, closes_at > now() AS open FROM message ORDER BY id"
REACHED = ("cancelled", "phone_reached")


@dataclass
class Phones:
    """The clients ONE and OTHER, and a mailing to both that is not planned yet."""

    db: Database
    api: Api
    mailing_id: int

    async def planned_pair(self) -> tuple[int, int]:
        first, second = await self.db.add_client(phone=ONE), await self.db.add_client(phone=OTHER)
        await self.plan()
        return first, second

    async def plan(self) -> None:
        await plan_mailing(self.db.sessions, self.mailing_id)
        await self.settle()

    async def settle(self) -> None:
        await settle_mailing(self.db.sessions, self.mailing_id)

    async def edit(self) -> None:
        answer = await self.api.patch(f"/mailings/{self.mailing_id}/", json={"ends_at": in_hours(40)})
        assert answer.status_code == 200, answer.text
        await self.plan()

    async def reached(self, client_id: int, status: str, phone: str = ONE) -> None:
        """Bring the client's message to `status` as calls to `phone` would; pending: with an ambiguous attempt."""
        if status not in {"sending", "pending", "sent"}:
            await self.db.run(END, client_id=client_id, status="sending", phone=phone)
        await self.db.run(END, client_id=client_id, status=status, phone=phone)

    async def outcomes(self) -> dict[int, tuple[str, str | None]]:
        return await outcomes(self.db)

    async def renumber(self, client_id: int, phone: str) -> None:
        assert (await self.api.patch(f"/clients/{client_id}/", json={"phone": phone})).status_code == 200

    async def exchange(self, first: int, second: int) -> None:
        await self.hand_over(first, second)
        await self.renumber(first, OTHER)

    async def hand_over(self, first: int, second: int) -> None:
        """Give ONE, the first client's phone, to the second."""
        await self.renumber(first, THIRD)
        await self.renumber(second, ONE)


@pytest.fixture
async def phones(db: Database, api: Api) -> Phones:
    return Phones(db, api, await db.add_mailing(is_planned=False))


async def outcomes(db: Database) -> dict[int, tuple[str, str | None]]:
    return {row.client_id: (row.status, row.reason_code) for row in await db.run(MESSAGES)}


async def test_a_client_deleted_and_created_again_gets_no_second_sms_after_an_edit(campaign: Campaign) -> None:
    (first,) = await campaign.clients(1)
    await campaign.clients(1, timezone="Etc/GMT-12")  # half a day away: the mailing goes on
    phone = (await campaign.api.get(f"/clients/{first}/")).json()["phone"]
    async with campaign.working():
        mailing_id = await campaign.mailing(local_window=open_for(2), lasts_s=86_400)
        await campaign.reaches(mailing_id, sent=1)
        assert (await campaign.api.delete(f"/clients/{first}/")).status_code == 204
        again = (await created(campaign.api, phone=phone))["id"]
        patch = {"ends_at": in_hours(30)}
        assert (await campaign.api.patch(f"/mailings/{mailing_id}/", json=patch)).status_code == 200
        await campaign.reaches(mailing_id, cancelled=1)
    assert [(item["phone"], item["repeats"]) for item in await campaign.sandbox.ledger()] == [(int(phone), 0)]
    assert (await outcomes(campaign.db))[again] == REACHED


@pytest.mark.parametrize("status", ["sent", "unknown", "pending"])
async def test_whatever_may_have_arrived_holds_the_phone(phones: Phones, status: str) -> None:
    first, second = await phones.planned_pair()
    await phones.reached(first, status)
    await phones.hand_over(first, second)
    await phones.settle()
    assert await phones.outcomes() == {first: (status, None), second: REACHED}


@pytest.mark.parametrize("status", ["failed", "expired", "cancelled"])
async def test_a_message_that_never_arrived_leaves_the_phone_to_the_next_client(phones: Phones, status: str) -> None:
    first, second = await phones.planned_pair()
    await phones.reached(first, status)
    await phones.db.run("DELETE FROM client WHERE id = :id", id=first)
    await phones.renumber(second, ONE)
    third = (await created(phones.api, phone=OTHER))["id"]
    await phones.edit()
    found = await phones.outcomes()
    assert (found[second], found[third]) == (("pending", None), ("pending", None))


@pytest.mark.parametrize(("end", "expected"), [("sent", REACHED), ("failed", ("pending", None))])
async def test_while_a_call_to_the_phone_is_under_way_its_next_client_waits(
    phones: Phones, end: str, expected: object
) -> None:
    first, second = await phones.planned_pair()
    await phones.reached(first, "sending")
    await phones.hand_over(first, second)
    await phones.settle()
    assert await phones.db.value("SELECT closes_at = '-infinity' FROM message WHERE client_id = :id", id=second)
    await phones.reached(first, end)
    await phones.settle()
    assert (await phones.outcomes())[second] == expected


async def test_a_message_that_was_stopped_and_sent_to_the_client_s_new_phone_leaves_the_old_one(phones: Phones) -> None:
    first, second = await phones.planned_pair()
    await phones.reached(first, "sending")
    await phones.hand_over(first, second)
    await phones.reached(first, "sent", THIRD)
    await phones.settle()
    assert await phones.outcomes() == {first: ("sent", None), second: ("pending", None)}


async def test_an_erasure_leaves_the_phone_known_to_the_mailing_until_the_retention(phones: Phones) -> None:
    first = await phones.db.add_client(phone=ONE)
    await phones.db.add_client(phone=OTHER)
    await phones.plan()
    await phones.reached(first, "sent")
    await erase(phones.db.sessions, ONE)
    await phones.db.commit(allow_again, ONE)
    again = (await created(phones.api, phone=ONE))["id"]
    await phones.edit()
    assert (await phones.outcomes())[again] == REACHED
    assert ONE not in str(await phones.db.run("SELECT f::text FROM former_phone f"))
    await phones.db.commit(redact_mailing, phones.mailing_id)
    assert await phones.db.value("SELECT count(*) FROM former_phone") == 0


async def test_other_mailings_and_tests_still_reach_the_phone(phones: Phones) -> None:
    first = await phones.db.add_client(phone=ONE)
    await phones.plan()
    await phones.reached(first, "sent")
    await phones.api.delete(f"/clients/{first}/")
    again = (await created(phones.api, phone=ONE))["id"]
    assert (await phones.api.post(f"/mailings/{phones.mailing_id}/test", json={"phone": ONE})).status_code == 201
    await replace(phones, mailing_id=await phones.db.add_mailing(is_planned=False)).plan()
    statement = "SELECT status FROM message WHERE client_id = :id"
    assert [row.status for row in await phones.db.run(statement, id=again)] == ["pending", "pending"]


async def test_the_preview_of_an_edit_leaves_out_whom_the_phone_s_history_excludes(phones: Phones) -> None:
    first, second = await phones.planned_pair()
    await phones.reached(first, "sent")
    await phones.reached(second, "failed", OTHER)
    for client_id in (first, second):
        await phones.api.delete(f"/clients/{client_id}/")
    for phone in (ONE, OTHER):
        await created(phones.api, phone=phone)
    found = (await phones.api.get(f"/mailings/{phones.mailing_id}/")).json()
    body = {"text": "Hello", "starts_at": found["starts_at"], "ends_at": in_hours(40)}
    answer = (await phones.api.post("/mailings/preview", json=body, params={"mailing_id": phones.mailing_id})).json()
    assert (answer["recipients"], answer["excluded"]["unaffected"]) == (1, 1)
    await phones.edit()
    assert await phones.db.value("SELECT pending FROM mailing_counts") == answer["recipients"]


async def test_two_clients_exchange_their_phones_while_they_are_planned(phones: Phones) -> None:
    """The first client's message is sent beside the plan. The exchange waits for the slice of the second."""
    first = await phones.db.add_client(phone=ONE)
    await phones.plan()
    await phones.reached(first, "sent")
    second = await phones.db.add_client(phone=OTHER)
    async with transaction(phones.db.sessions) as plan:
        assert await lock_for_plan(plan)
        connection = await plan.connection()
        await connection.exec_driver_sql(
            "INSERT INTO message (mailing_id, client_id, due_at, closes_at)"
            f" VALUES ({phones.mailing_id}, {second}, now(), now() + interval '1 hour')"
        )
        exchanging = asyncio.create_task(phones.exchange(first, second))
        await phones.db.comes(PLAN_LOCK_WAITS, 1)
    await exchanging
    assert await phones.db.commit(claim, phones.mailing_id, 10) == []
    await phones.settle()
    assert await phones.outcomes() == {first: ("sent", None), second: REACHED}


async def test_a_claim_under_way_while_the_phone_leaves_is_seen(phones: Phones) -> None:
    first, second = await phones.planned_pair()
    async with transaction(phones.db.sessions) as claiming:
        assert {message.phone for message in await claim(claiming, phones.mailing_id, 10)} == {ONE, OTHER}
        exchanging = asyncio.create_task(phones.exchange(first, second))
        await phones.db.comes(LOCK_WAITS, 1)
    await exchanging
    assert await phones.db.value("SELECT count(*) FROM former_phone") == 2
    assert await phones.db.value("SELECT bool_and(closes_at = '-infinity') FROM message")


async def test_windows_are_decided_without_comparing_each_message_with_each_former_phone(db: Database) -> None:
    mailing_id, _ = await db.add_audience(["sent"] * 100)
    await db.run("DELETE FROM client")
    await db.run("UPDATE former_phone SET phone_hash = sha256(int8send(message_id))")  # each had a phone of its own
    waiting = await db.add_clients(2000)
    await db.add_messages(mailing_id, ["pending"] * 2000, first_client=waiting[0])
    await db.run("UPDATE message SET closes_at = '-infinity' WHERE status = 'pending'")
    await db.run("ANALYZE client, message")  # the clients were deleted just now
    now = datetime.now(UTC)
    windows = [SendWindow("UTC", now, now + timedelta(hours=1), None)]
    (decided,) = await plans(db.engine, partial(reschedule_closed, mailing_id=mailing_id, count=5000, windows=windows))
    compared = [node.get("Rows Removed by Join Filter", 0) * node["Actual Loops"] for node in nodes(decided)]
    assert sum(compared) < 2000
