"""An opt-out belongs to the phone: it outlives the client, and every way in respects it."""

import asyncio
from typing import Any

import pytest

from mailing.clients.repository import ClientRepository
from mailing.clients.schemas import ClientIn, ClientPatch
from mailing.database.engine import transaction
from mailing.privacy.erasure import allow_again, erase, export_person
from support.answers import Json, json_of
from support.api import Api
from support.client_requests import MOSCOW, created, imported, uploaded
from support.database import LOCK_WAITS, Database

PHONE, OTHER = "79161234567", "79161234568"
LISTED = "SELECT count(*) FROM suppression"


async def opted_out_and_deleted(api: Api) -> None:
    client = await created(api)
    assert (await api.patch(f"/clients/{client['id']}", json={"opted_out": True})).json()["opted_out"] is True
    assert (await api.delete(f"/clients/{client['id']}")).status_code == 204


def counts(result: dict[str, Any]) -> tuple[int, ...]:
    return tuple(result[name] for name in ("created", "updated", "opted_out", "rejected"))


async def add_pending(db: Database, client_id: int) -> None:
    """Add a message that waits."""
    await db.add_mailing_of(["pending"])
    await db.run("UPDATE message SET client_id = :client_id", client_id=client_id)


async def client_with(api: Api, phone: str) -> Json:
    return dict(json_of(await api.get("/clients", params={"phone": phone}))["items"][0])


@pytest.mark.parametrize("given", [{}, {"opted_out": False}])
async def test_a_phone_that_opted_out_and_was_deleted_is_opted_out_when_it_is_created_again(
    api: Api, given: dict[str, bool]
) -> None:
    await opted_out_and_deleted(api)
    again = await created(api, **given)
    assert again["opted_out"] is True
    events = (await api.get("/events", params={"client_id": again["id"]})).json()["items"]
    assert [event["kind"] for event in events] == ["client.created", "client.opted_out"]
    detail = events[1]["detail"]
    assert detail["listed"]["by"] == "MAILING_API_KEY"
    assert (detail["reason_code"], detail["reason"]) == ("client_opted_out", "the client opted out")


@pytest.mark.parametrize("column", ["", ",no", ","])
async def test_or_when_it_is_imported_again_whatever_the_file_says(api: Api, column: str) -> None:
    await opted_out_and_deleted(api)
    header = "phone,timezone,opted_out" if column else "phone,timezone"
    result = await uploaded(api, f"{header}\n{PHONE},Europe/Moscow{column}\n{OTHER},UTC{column}\n")
    assert counts(result) == (2, 0, 1, 0)
    again = await client_with(api, PHONE)
    assert again["opted_out"] is True
    assert (await client_with(api, OTHER))["opted_out"] is False
    kinds = [e["kind"] for e in (await api.get("/events", params={"client_id": again["id"]})).json()["items"]]
    assert "client.opted_out" in kinds


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_or_when_another_client_takes_it_whose_messages_are_cancelled(
    api: Api, db: Database, method: str
) -> None:
    await opted_out_and_deleted(api)
    other = (await created(api, phone=OTHER))["id"]
    await add_pending(db, other)
    answer = await api.request(method, f"/clients/{other}", json=MOSCOW | {"opted_out": False})
    assert answer.json()["opted_out"] is True
    assert await db.value("SELECT status FROM message") == "cancelled"
    assert await db.value(LISTED) == 1


async def test_a_client_that_opted_out_and_changes_its_phone_leaves_both_phones_on_the_list(
    api: Api, db: Database
) -> None:
    client = await created(api, opted_out=True)
    changed = await api.put(f"/clients/{client['id']}", json=MOSCOW | {"phone": OTHER})
    assert changed.json()["opted_out"] is True
    assert await db.value(LISTED) == 2
    assert (await created(api))["opted_out"] is True


async def test_opting_in_again_removes_the_entry(api: Api, db: Database) -> None:
    await opted_out_and_deleted(api)
    client = await created(api)
    assert (await api.patch(f"/clients/{client['id']}", json={"opted_out": False})).json()["opted_out"] is False
    assert await db.value(LISTED) == 0
    assert (await api.delete(f"/clients/{client['id']}")).status_code == 204
    assert (await created(api))["opted_out"] is False


async def test_a_file_opts_out_clients_and_phones_that_nobody_has(api: Api, db: Database) -> None:
    await add_pending(db, (await created(api, phone="79031234568"))["id"])
    file = f"phone,opted_out\n79031234568,TRUE\n{PHONE},1\n{OTHER},no\n79031234567,maybe\n"
    result = await uploaded(api, file)
    assert counts(result) == (0, 2, 2, 2)
    assert [(error["line"], error["field"]) for error in result["errors"]] == [(4, "timezone"), (5, "opted_out")]
    assert await db.value("SELECT reason_code FROM message WHERE status = 'cancelled'") == "client_opted_out"
    assert await db.value("SELECT count(*) FROM event WHERE kind = 'client.opted_out' AND detail ? 'import'") == 1
    entries = await db.run("SELECT DISTINCT actor, reason_code FROM suppression")
    assert entries == [("MAILING_API_KEY", "imported")]
    assert (await created(api))["opted_out"] is True
    assert counts(await uploaded(api, file)) == (0, 2, 0, 2)


async def test_no_file_opts_anyone_in_and_rows_with_one_phone_count_together(api: Api) -> None:
    rows = f"{PHONE},UTC,yes\n{PHONE},,no\n{OTHER},,\n{OTHER},UTC,\n"
    assert counts(await uploaded(api, f"phone,timezone,opted_out\n{rows}")) == (2, 2, 1, 0)
    assert (await client_with(api, PHONE))["opted_out"] is True
    assert counts(await uploaded(api, f"phone,opted_out\n{PHONE},false\n{OTHER},0\n")) == (0, 2, 0, 0)
    assert [(await client_with(api, phone))["opted_out"] for phone in (PHONE, OTHER)] == [True, False]


async def test_an_export_says_who_opted_out_and_is_imported_elsewhere_with_it(api: Api, db: Database) -> None:
    await created(api, opted_out=True)
    await created(api, phone=OTHER)
    file = (await api.get("/clients/export")).text.removeprefix("\ufeff")
    assert [line.rpartition(",")[2] for line in file.splitlines()] == ["opted_out", "yes", "no"]
    await db.run("DELETE FROM client")
    await db.run("DELETE FROM suppression")
    assert counts(await uploaded(api, file)) == (2, 0, 1, 0)
    assert [(await client_with(api, phone))["opted_out"] for phone in (PHONE, OTHER)] == [True, False]


async def test_an_opt_out_outlives_an_erasure_and_a_person_s_export_says_who_when_and_why(
    api: Api, db: Database
) -> None:
    await created(api, opted_out=True)
    await erase(db.sessions, PHONE)
    entry = (await db.commit(export_person, PHONE)).opted_out
    assert entry is not None
    assert (entry["actor"], entry["reason_code"]) == ("MAILING_API_KEY", "added_opted_out")
    assert entry["reason"] == "the client was added as opted out"
    await db.commit(allow_again, PHONE)
    assert (await created(api))["opted_out"] is True


async def test_any_statement_is_bound_by_the_list(api: Api, db: Database) -> None:
    await created(api)
    await db.run("UPDATE client SET opted_out = true")
    await db.run("DELETE FROM client")
    await db.run(f"INSERT INTO client (phone, operator_code, timezone) VALUES ('{PHONE}', '916', 'UTC')")
    assert await db.value("SELECT opted_out FROM client") is True
    assert await db.value("SELECT reason_code FROM suppression") == "statement"


async def test_a_client_created_while_its_phone_is_opted_out_by_a_file_is_opted_out(db: Database) -> None:
    """Neither transaction sees the other's row: the later one has to wait."""
    async with db.sessions() as creating, creating.begin():
        await ClientRepository(creating).create(ClientIn(phone=PHONE, timezone="UTC"), by="test")
        importing = asyncio.create_task(imported(db, f"phone,opted_out\n{PHONE},yes\n"))
        await db.comes(LOCK_WAITS, 1)
    assert (await importing).opted_out == 1
    assert await db.value("SELECT opted_out FROM client") is True


async def test_an_opt_out_and_a_file_with_the_same_client_both_hold(db: Database) -> None:
    await imported(db, f"phone,timezone\n{PHONE},UTC\n")
    client_id = await db.value("SELECT id FROM client")
    file = f"phone,timezone,opted_out\n{PHONE},Asia/Omsk,no\n{OTHER},UTC,yes\n"
    async with db.sessions() as changing, changing.begin():
        await ClientRepository(changing).change(client_id, ClientPatch(opted_out=True), by="test")
        importing = asyncio.create_task(imported(db, file))
        await db.comes(LOCK_WAITS, 1)
    await importing
    rows = await db.run("SELECT phone, timezone, opted_out FROM client ORDER BY phone")
    assert rows == [(PHONE, "Asia/Omsk", True), (OTHER, "UTC", True)]


async def test_opting_out_by_files_and_by_hand_at_once_never_ends_in_a_deadlock(db: Database) -> None:
    phones = [f"7916000{number:04}" for number in range(60)]
    await imported(db, "phone,timezone\n" + "".join(f"{phone},UTC\n" for phone in phones[:40]))
    ids = [row.id for row in await db.run("SELECT id FROM client ORDER BY id")]

    async def by_hand(client_id: int, *, opted_out: bool) -> None:
        async with transaction(db.sessions) as session:
            await ClientRepository(session).change(client_id, ClientPatch(opted_out=opted_out), by="test")

    alone = "phone,opted_out\n" + "".join(f"{phone},yes\n" for phone in reversed(phones))
    zoned = "phone,timezone,opted_out\n" + "".join(f"{phone},Asia/Omsk,yes\n" for phone in phones)
    hands = [by_hand(id_, opted_out=id_ % 2 == 0) for id_ in ids]
    await asyncio.gather(imported(db, alone), *hands[:20], imported(db, zoned), *hands[20:])
    unequal = """SELECT count(*) FROM client c CROSS JOIN erasure_key k WHERE c.opted_out <> EXISTS (
        SELECT FROM suppression s WHERE s.phone_hash = erasure_hash(c.phone, k.key))"""
    assert await db.value(unequal) == 0
