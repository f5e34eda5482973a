"""A phone gets a mailing once, whatever clients have it one after the other."""

import asyncio
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from mailing.database.engine import Sessions, transaction
from mailing.messages.claim import claim
from mailing.messages.locks import lock_for_plan
from mailing.privacy.erasure import allow_again, erase
from mailing.privacy.repository import redact_mailing
from mailing.sending.finalize import settle_mailing
from mailing.sending.plan import plan_mailing
from mailing.settings import Settings
from support.campaign import Campaign, Sandbox, WorkerOf
from support.mailing_requests import in_hours
from support.rows import add_client, add_mailing, run, value

ONE, OTHER, THIRD = "79161234567", "79161234568", "79161234569"
ZONE = {"timezone": "Europe/Moscow"}
END = """
    UPDATE message SET status = :status, phone = :phone, text_revision = 1, counted_attempts = 1, claim_no = 1,
        maybe_accepted = :status IN ('unknown', 'pending'),
        lease_until = CASE :status WHEN 'sending' THEN now() + interval '1 min' END,
        finished_at = CASE WHEN :status NOT IN ('sending', 'pending') THEN now() END
    WHERE client_id = :client_id"""
MESSAGES = "SELECT client_id, status, reason_code, closes_at > now() AS open FROM message ORDER BY id"
WAITING_FOR_PLAN_LOCK = """
    SELECT count(*) FROM pg_locks WHERE relation = 'plan_lock'::regclass AND NOT granted
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"""
REACHED = ("cancelled", "phone_reached")


@pytest.fixture
async def mailing_id(engine: AsyncEngine) -> int:
    """Not planned yet."""
    mailing_id = await add_mailing(engine)
    await run(engine, "UPDATE mailing SET planned_revision = 0")
    return mailing_id


async def planned(sessions: Sessions, mailing_id: int) -> None:
    await plan_mailing(sessions, mailing_id)
    await settle_mailing(sessions, mailing_id)


async def reached(engine: AsyncEngine, client_id: int, status: str, phone: str = ONE) -> None:
    """Bring the client's message to `status` as calls to `phone` would; pending: with an ambiguous attempt."""
    if status not in {"sending", "pending", "sent"}:
        await run(engine, END, client_id=client_id, status="sending", phone=phone)
    await run(engine, END, client_id=client_id, status=status, phone=phone)


async def edited(api: httpx.AsyncClient, sessions: Sessions, mailing_id: int) -> None:
    answer = await api.patch(f"/mailings/{mailing_id}/", json={"ends_at": in_hours(40)})
    assert answer.status_code == 200, answer.text
    await planned(sessions, mailing_id)


async def outcomes(engine: AsyncEngine) -> dict[int, tuple[str, str | None]]:
    return {row.client_id: (row.status, row.reason_code) for row in await run(engine, MESSAGES)}


async def posted(api: httpx.AsyncClient, phone: str = ONE) -> int:
    answer = await api.post("/clients/", json={"phone": phone, **ZONE})
    assert answer.status_code == 201, answer.text
    client_id: int = answer.json()["id"]
    return client_id


async def renumbered(api: httpx.AsyncClient, client_id: int, phone: str) -> None:
    assert (await api.patch(f"/clients/{client_id}/", json={"phone": phone})).status_code == 200


async def test_a_client_deleted_and_created_again_gets_no_second_sms_after_an_edit(
    engine: AsyncEngine, campaign: Campaign, sandbox: Sandbox, settings: Settings, working: WorkerOf
) -> None:
    (first,) = await campaign.clients(1)
    await campaign.clients(1, timezone="Etc/GMT-12")  # half a day away: the mailing goes on
    phone = (await campaign.api.get(f"/clients/{first}/")).json()["phone"]
    now = datetime.now(UTC)
    hours = {"start": f"{now - timedelta(hours=2):%H:%M}", "end": f"{now + timedelta(hours=2):%H:%M}"}
    async with working(settings):
        mailing_id = await campaign.mailing(local_window=hours, lasts_s=86_400)

        async def is_sent() -> bool:
            return (await campaign.counts(mailing_id)).get("sent") == 1

        await campaign.until(is_sent)
        assert (await campaign.api.delete(f"/clients/{first}/")).status_code == 204
        again = await posted(campaign.api, phone)
        patch = {"ends_at": in_hours(30)}
        assert (await campaign.api.patch(f"/mailings/{mailing_id}/", json=patch)).status_code == 200

        async def is_decided() -> bool:
            return (await campaign.counts(mailing_id)).get("cancelled") == 1

        await campaign.until(is_decided)
    assert [(item["phone"], item["repeats"]) for item in await sandbox.ledger()] == [(int(phone), 0)]
    assert (await outcomes(engine))[again] == REACHED


async def test_a_phone_that_moves_to_another_client_takes_its_message_along(
    engine: AsyncEngine, sessions: Sessions, api: httpx.AsyncClient, mailing_id: int
) -> None:
    first, second = await add_client(engine, phone=ONE), await add_client(engine, phone=OTHER)
    await planned(sessions, mailing_id)
    await reached(engine, first, "sent")
    await renumbered(api, first, THIRD)
    await renumbered(api, second, ONE)
    await settle_mailing(sessions, mailing_id)
    assert await outcomes(engine) == {first: ("sent", None), second: REACHED}


@pytest.mark.parametrize("status", ["sent", "unknown", "pending"])
async def test_whatever_may_have_arrived_holds_the_phone(
    engine: AsyncEngine, sessions: Sessions, api: httpx.AsyncClient, mailing_id: int, status: str
) -> None:
    first, second = await add_client(engine, phone=ONE), await add_client(engine, phone=OTHER)
    await planned(sessions, mailing_id)
    await reached(engine, first, status)
    await renumbered(api, first, THIRD)
    await renumbered(api, second, ONE)
    await settle_mailing(sessions, mailing_id)
    assert (await outcomes(engine))[second] == REACHED


@pytest.mark.parametrize("status", ["failed", "expired", "cancelled"])
async def test_a_message_that_never_arrived_leaves_the_phone_to_the_next_client(
    engine: AsyncEngine, sessions: Sessions, api: httpx.AsyncClient, mailing_id: int, status: str
) -> None:
    first, second = await add_client(engine, phone=ONE), await add_client(engine, phone=OTHER)
    await planned(sessions, mailing_id)
    await reached(engine, first, status)
    await run(engine, "DELETE FROM client WHERE id = :id", id=first)
    await renumbered(api, second, ONE)
    third = await posted(api, OTHER)
    await edited(api, sessions, mailing_id)
    found = await outcomes(engine)
    assert (found[second], found[third]) == (("pending", None), ("pending", None))


@pytest.mark.parametrize(("end", "expected"), [("sent", REACHED), ("failed", ("pending", None))])
async def test_while_a_call_to_the_phone_is_under_way_its_next_client_waits(
    engine: AsyncEngine, sessions: Sessions, api: httpx.AsyncClient, mailing_id: int, end: str, expected: object
) -> None:
    first, second = await add_client(engine, phone=ONE), await add_client(engine, phone=OTHER)
    await planned(sessions, mailing_id)
    await reached(engine, first, "sending")
    await renumbered(api, first, THIRD)
    await renumbered(api, second, ONE)
    await settle_mailing(sessions, mailing_id)
    assert await value(engine, "SELECT closes_at = '-infinity' FROM message WHERE client_id = :id", id=second)
    await reached(engine, first, end)
    await settle_mailing(sessions, mailing_id)
    assert (await outcomes(engine))[second] == expected


async def test_a_message_that_was_stopped_and_sent_to_the_client_s_new_phone_leaves_the_old_one(
    engine: AsyncEngine, sessions: Sessions, api: httpx.AsyncClient, mailing_id: int
) -> None:
    first, second = await add_client(engine, phone=ONE), await add_client(engine, phone=OTHER)
    await planned(sessions, mailing_id)
    await reached(engine, first, "sending")
    await renumbered(api, first, THIRD)
    await renumbered(api, second, ONE)
    await reached(engine, first, "sent", THIRD)
    await settle_mailing(sessions, mailing_id)
    assert await outcomes(engine) == {first: ("sent", None), second: ("pending", None)}


async def test_an_erasure_leaves_the_phone_known_to_the_mailing_until_the_retention(
    engine: AsyncEngine, sessions: Sessions, api: httpx.AsyncClient, mailing_id: int
) -> None:
    first = await add_client(engine, phone=ONE)
    await add_client(engine, phone=OTHER)
    await planned(sessions, mailing_id)
    await reached(engine, first, "sent")
    await erase(sessions, ONE)
    await allow_again(sessions, ONE)
    again = await posted(api)
    await edited(api, sessions, mailing_id)
    assert (await outcomes(engine))[again] == REACHED
    assert ONE not in str(await run(engine, "SELECT f::text FROM former_phone f"))
    async with transaction(sessions) as session:
        await redact_mailing(session, mailing_id)
    assert await value(engine, "SELECT count(*) FROM former_phone") == 0


async def test_other_mailings_and_tests_still_reach_the_phone(
    engine: AsyncEngine, sessions: Sessions, api: httpx.AsyncClient, mailing_id: int
) -> None:
    first = await add_client(engine, phone=ONE)
    await planned(sessions, mailing_id)
    await reached(engine, first, "sent")
    await api.delete(f"/clients/{first}/")
    again = await posted(api)
    assert (await api.post(f"/mailings/{mailing_id}/test", json={"phone": ONE})).status_code == 201
    other = await add_mailing(engine)
    await run(engine, "UPDATE mailing SET planned_revision = 0 WHERE id = :id", id=other)
    await planned(sessions, other)
    statement = "SELECT status FROM message WHERE client_id = :id"
    assert [row.status for row in await run(engine, statement, id=again)] == ["pending", "pending"]


async def test_the_preview_of_an_edit_leaves_out_whom_the_phone_s_history_excludes(
    engine: AsyncEngine, sessions: Sessions, api: httpx.AsyncClient, mailing_id: int
) -> None:
    first, second = await add_client(engine, phone=ONE), await add_client(engine, phone=OTHER)
    await planned(sessions, mailing_id)
    await reached(engine, first, "sent")
    await reached(engine, second, "failed", OTHER)
    for client_id in (first, second):
        await api.delete(f"/clients/{client_id}/")
    await posted(api, ONE)
    await posted(api, OTHER)
    body = {"text": "Hello", "starts_at": in_hours(-1), "ends_at": in_hours(40)}
    found = await api.get(f"/mailings/{mailing_id}/")
    body |= {"starts_at": found.json()["starts_at"]}
    answer = (await api.post("/mailings/preview", json=body, params={"mailing_id": mailing_id})).json()
    assert (answer["recipients"], answer["excluded"]["unaffected"]) == (1, 1)
    await edited(api, sessions, mailing_id)
    assert await value(engine, "SELECT pending FROM mailing_counts") == answer["recipients"]


async def exchange(api: httpx.AsyncClient, first: int, second: int) -> None:
    for client_id, phone in ((first, THIRD), (second, ONE), (first, OTHER)):
        await renumbered(api, client_id, phone)


async def has(engine: AsyncEngine, statement: str) -> None:
    async with asyncio.timeout(30):
        while not await value(engine, statement):  # noqa: ASYNC110 - nobody would set an event
            await asyncio.sleep(0.02)


async def test_two_clients_exchange_their_phones_while_they_are_planned(
    engine: AsyncEngine, sessions: Sessions, api: httpx.AsyncClient, mailing_id: int
) -> None:
    """The first client's message is sent beside the plan. The exchange waits for the slice of the second."""
    first = await add_client(engine, phone=ONE)
    await planned(sessions, mailing_id)
    await reached(engine, first, "sent")
    second = await add_client(engine, phone=OTHER)
    async with transaction(sessions) as plan:
        assert await lock_for_plan(plan)
        connection = await plan.connection()
        await connection.exec_driver_sql(
            "INSERT INTO message (mailing_id, client_id, due_at, closes_at)"
            f" VALUES ({mailing_id}, {second}, now(), now() + interval '1 hour')"
        )
        exchanging = asyncio.create_task(exchange(api, first, second))
        await has(engine, WAITING_FOR_PLAN_LOCK)
    await exchanging
    async with transaction(sessions) as session:
        assert await claim(session, mailing_id, 10) == []
    await settle_mailing(sessions, mailing_id)
    assert await outcomes(engine) == {first: ("sent", None), second: REACHED}


async def test_a_claim_under_way_while_the_phone_leaves_is_seen(
    engine: AsyncEngine, sessions: Sessions, api: httpx.AsyncClient, mailing_id: int
) -> None:
    first, second = await add_client(engine, phone=ONE), await add_client(engine, phone=OTHER)
    await planned(sessions, mailing_id)
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    async with transaction(sessions) as claiming:
        assert {message.phone for message in await claim(claiming, mailing_id, 10)} == {ONE, OTHER}
        exchanging = asyncio.create_task(exchange(api, first, second))
        await has(engine, waiting)
    await exchanging
    assert await value(engine, "SELECT count(*) FROM former_phone") == 2
    assert await value(engine, "SELECT bool_and(closes_at = '-infinity') FROM message")
