"""The effect of a client's change on its messages: in the same transaction, or not at all."""

from typing import Any

import httpx
import pytest

from mailing.database.engine import Sessions
from support.planted_messages import counters_agree, message_of, plant_message

MOSCOW = {"phone": "79161234567", "timezone": "Europe/Moscow"}


@pytest.fixture
async def client_id(api: httpx.AsyncClient) -> int:
    created: int = (await api.post("/clients", json=MOSCOW)).json()["id"]
    return created


async def test_opting_out_cancels_what_is_pending_and_nothing_else(
    api: httpx.AsyncClient, sessions: Sessions, client_id: int
) -> None:
    neighbour = (await api.post("/clients", json=MOSCOW | {"phone": "79161234568"})).json()["id"]
    pending = await plant_message(sessions, client_id)
    ambiguous = await plant_message(sessions, client_id, attempts=1, ambiguous=True)
    sending = await plant_message(sessions, client_id, status="sending", attempts=1)
    sent = await plant_message(sessions, client_id, status="sent", attempts=1)
    others = await plant_message(sessions, neighbour)

    assert (await api.patch(f"/clients/{client_id}", json={"opted_out": True})).json()["opted_out"] is True

    statuses = {pending: "cancelled", ambiguous: "unknown", sending: "sending", sent: "sent", others: "pending"}
    assert {mailing: (await message_of(sessions, mailing))["status"] for mailing in statuses} == statuses
    assert (await message_of(sessions, pending))["reason_code"] == "client_opted_out"
    assert all([await counters_agree(sessions, mailing) for mailing in statuses])


async def test_a_put_that_opts_out_cancels_too_and_opting_in_again_revives_nothing(
    api: httpx.AsyncClient, sessions: Sessions, client_id: int
) -> None:
    mailing = await plant_message(sessions, client_id)
    await api.put(f"/clients/{client_id}", json=MOSCOW | {"opted_out": True})
    answer = await api.put(f"/clients/{client_id}", json=MOSCOW | {"opted_out": False})
    assert answer.json()["opted_out"] is False
    assert (await message_of(sessions, mailing))["status"] == "cancelled"


async def test_deleting_cancels_and_keeps_the_phone_of_the_message(
    api: httpx.AsyncClient, sessions: Sessions, client_id: int
) -> None:
    pending = await plant_message(sessions, client_id)
    sent = await plant_message(sessions, client_id, status="sent", attempts=1)
    assert (await api.delete(f"/clients/{client_id}")).status_code == 204
    message = await message_of(sessions, pending)
    assert (message["status"], message["phone"]) == ("cancelled", "79161234567")
    assert message["reason_code"] == "client_deleted"
    assert (await message_of(sessions, sent))["status"] == "sent"
    assert await counters_agree(sessions, pending)


@pytest.mark.parametrize("change", [{"timezone": "Asia/Tokyo"}, MOSCOW | {"timezone": "Asia/Tokyo"}])
async def test_a_new_time_zone_closes_the_openings_of_unsent_messages(
    api: httpx.AsyncClient, sessions: Sessions, client_id: int, change: dict[str, Any]
) -> None:
    pending = await plant_message(sessions, client_id)
    sending = await plant_message(sessions, client_id, status="sending", attempts=1)
    sent = await plant_message(sessions, client_id, status="sent", attempts=1)
    method = "PUT" if "phone" in change else "PATCH"
    assert (await api.request(method, f"/clients/{client_id}", json=change)).status_code == 200
    openings = [(await message_of(sessions, mailing))["open"] for mailing in (pending, sending, sent)]
    assert openings == [False, False, True]


async def test_the_same_time_zone_again_closes_nothing(
    api: httpx.AsyncClient, sessions: Sessions, client_id: int
) -> None:
    mailing = await plant_message(sessions, client_id)
    await api.put(f"/clients/{client_id}", json=MOSCOW | {"tag": "vip"})
    assert (await message_of(sessions, mailing))["open"] is True


async def test_a_change_that_is_refused_moves_no_message(
    api: httpx.AsyncClient, sessions: Sessions, client_id: int
) -> None:
    await api.post("/clients", json=MOSCOW | {"phone": "79161234568"})
    mailing = await plant_message(sessions, client_id)
    taken = {"phone": "79161234568", "opted_out": True, "timezone": "Asia/Tokyo"}
    assert (await api.patch(f"/clients/{client_id}", json=taken)).status_code == 409
    message = await message_of(sessions, mailing)
    assert (message["status"], message["open"]) == ("pending", True)


async def test_an_import_closes_the_openings_of_those_whose_time_zone_it_changes(
    api: httpx.AsyncClient, sessions: Sessions, client_id: int
) -> None:
    stays = (await api.post("/clients", json=MOSCOW | {"phone": "79161234568"})).json()["id"]
    moved = [await plant_message(sessions, client_id) for _ in range(2)]
    kept = await plant_message(sessions, stays)
    file = "phone,timezone,tag\n79161234567,Asia/Tokyo,\n79161234568,Europe/Moscow,vip\n"
    assert (await api.post("/clients/import", content=file)).json()["updated"] == 2
    assert [(await message_of(sessions, mailing))["open"] for mailing in (*moved, kept)] == [False, False, True]
    assert await counters_agree(sessions, moved[0])
