"""The effect of a client's change on its messages: in the same transaction, or not at all."""

from typing import Any

import pytest

from support.answers import Json, json_of
from support.api import Api
from support.database import Database

MOSCOW = {"phone": "79161234567", "timezone": "Europe/Moscow"}


async def add_message(db: Database, client_id: int, status: str = "pending") -> int:
    """Add a message of a mailing of its own; return the mailing's id."""
    mailing_id, _ = await db.add_mailing_of([status], first_client=client_id)
    return mailing_id


async def message_of(db: Database, mailing_id: int) -> Json:
    """Return the mailing's only message; `open` tells whether its window is known."""
    (message,) = await db.run("SELECT *, closes_at > now() AS open FROM message WHERE mailing_id = :id", id=mailing_id)
    return message._asdict()


@pytest.fixture
async def client_id(api: Api) -> int:
    return int(json_of(await api.post("/clients", json=MOSCOW), 201)["id"])


async def test_opting_out_cancels_what_is_pending_and_nothing_else(api: Api, db: Database, client_id: int) -> None:
    neighbour = (await api.post("/clients", json=MOSCOW | {"phone": "79161234568"})).json()["id"]
    pending = await add_message(db, client_id)
    ambiguous = await add_message(db, client_id)
    await db.run(
        """UPDATE message SET maybe_accepted = true, counted_attempts = 1, claim_no = 1, phone = '79160000000'
        WHERE mailing_id = :id""",
        id=ambiguous,
    )
    sending = await add_message(db, client_id, "sending")
    sent = await add_message(db, client_id, "sent")
    others = await add_message(db, neighbour)

    assert (await api.patch(f"/clients/{client_id}", json={"opted_out": True})).json()["opted_out"] is True

    assert await db.statuses(pending) == {"cancelled": 1}
    assert (await message_of(db, pending))["reason_code"] == "client_opted_out"
    assert await db.statuses(ambiguous) == {"unknown": 1}
    assert await db.statuses(sending) == {"sending": 1}
    assert await db.statuses(sent) == {"sent": 1}
    assert await db.statuses(others) == {"pending": 1}


async def test_a_put_that_opts_out_cancels_too_and_opting_in_again_revives_nothing(
    api: Api, db: Database, client_id: int
) -> None:
    mailing = await add_message(db, client_id)
    await api.put(f"/clients/{client_id}", json=MOSCOW | {"opted_out": True})
    answer = await api.put(f"/clients/{client_id}", json=MOSCOW | {"opted_out": False})
    assert answer.json()["opted_out"] is False
    assert (await message_of(db, mailing))["status"] == "cancelled"


async def test_deleting_cancels_and_keeps_the_phone_of_the_message(api: Api, db: Database, client_id: int) -> None:
    pending = await add_message(db, client_id)
    sent = await add_message(db, client_id, "sent")
    assert (await api.delete(f"/clients/{client_id}")).status_code == 204
    message = await message_of(db, pending)
    assert (message["status"], message["phone"]) == ("cancelled", "79161234567")
    assert message["reason_code"] == "client_deleted"
    assert await db.statuses(pending) == {"cancelled": 1}
    assert await db.statuses(sent) == {"sent": 1}


@pytest.mark.parametrize("change", [{"timezone": "Asia/Tokyo"}, MOSCOW | {"timezone": "Asia/Tokyo"}])
async def test_a_new_time_zone_closes_the_openings_of_unsent_messages(
    api: Api, db: Database, client_id: int, change: dict[str, Any]
) -> None:
    pending = await add_message(db, client_id)
    sending = await add_message(db, client_id, "sending")
    sent = await add_message(db, client_id, "sent")
    method = "PUT" if "phone" in change else "PATCH"
    assert (await api.request(method, f"/clients/{client_id}", json=change)).status_code == 200
    openings = [(await message_of(db, mailing))["open"] for mailing in (pending, sending, sent)]
    assert openings == [False, False, True]


async def test_the_same_time_zone_again_closes_nothing(api: Api, db: Database, client_id: int) -> None:
    mailing = await add_message(db, client_id)
    await api.put(f"/clients/{client_id}", json=MOSCOW | {"tag": "vip"})
    assert (await message_of(db, mailing))["open"] is True


async def test_a_change_that_is_refused_moves_no_message(api: Api, db: Database, client_id: int) -> None:
    await api.post("/clients", json=MOSCOW | {"phone": "79161234568"})
    mailing = await add_message(db, client_id)
    taken = {"phone": "79161234568", "opted_out": True, "timezone": "Asia/Tokyo"}
    assert (await api.patch(f"/clients/{client_id}", json=taken)).status_code == 409
    message = await message_of(db, mailing)
    assert (message["status"], message["open"]) == ("pending", True)


async def test_an_import_closes_the_openings_of_those_whose_time_zone_it_changes(
    api: Api, db: Database, client_id: int
) -> None:
    stays = (await api.post("/clients", json=MOSCOW | {"phone": "79161234568"})).json()["id"]
    moved = [await add_message(db, client_id) for _ in range(2)]
    kept = await add_message(db, stays)
    file = "phone,timezone,tag\n79161234567,Asia/Tokyo,\n79161234568,Europe/Moscow,vip\n"
    assert (await api.post("/clients/import", content=file)).json()["updated"] == 2
    assert [(await message_of(db, mailing))["open"] for mailing in (*moved, kept)] == [False, False, True]
    assert await db.statuses(moved[0]) == {"pending": 1}
