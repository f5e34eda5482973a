import asyncio
import json
from collections.abc import Sequence

import pytest

from mailing.database.clock import database_now
from mailing.errors import Conflict, Invalid, NotFound
from mailing.privacy.erasure import allow_again, erase, export_person, reapply
from mailing.privacy.repository import Erasure, erasure_log
from support.api import Api
from support.database import Database

PHONE, OTHER = "79161234567", "79031234568"
ENDS = ("sent", "failed", "unknown")
ANYWHERE = """
    SELECT string_agg(row, ' ') FROM (
        SELECT m::text AS row FROM message m UNION ALL SELECT c::text FROM client c
        UNION ALL SELECT e::text FROM event e UNION ALL SELECT a::text FROM attempt a
        UNION ALL SELECT convert_from(body, 'UTF8') FROM idempotency_key) AS rows"""


async def written_to(db: Database, statuses: Sequence[str] = ENDS, *, phone: str = PHONE) -> int:
    """Add a client with a message in each state, each in a mailing of its own; return the client's id."""
    client_id = await db.add_client(phone=phone, tag="vip")
    for status in statuses:
        await db.add_mailing_of([status], first_client=client_id)
    await db.run("UPDATE message SET phone = :p WHERE client_id = :c AND counted_attempts > 0", p=phone, c=client_id)
    return client_id


async def anywhere(db: Database) -> str:
    return str(await db.value(ANYWHERE))


async def test_everything_known_about_a_person_is_told_and_nothing_about_another(db: Database, api: Api) -> None:
    client_id = await written_to(db, [*ENDS, "pending"])
    await written_to(db, phone=OTHER)
    message_id = await db.value("SELECT min(id) FROM message")
    await db.add_attempt(message_id, "accepted")
    await db.add_receipt(message_id, 2, "27")
    await db.run("UPDATE mailing SET text = 'Edited later', text_revision = 2 WHERE id = (SELECT min(id) FROM mailing)")
    await erase(db.sessions, "79990000000")
    await api.patch(f"/clients/{client_id}/", json={"opted_out": True})
    known = await db.commit(export_person, PHONE)
    assert known.client
    assert (known.client.id, known.client.tag) == (client_id, "vip")
    assert [message["status"] for message in known.messages] == [*ENDS, "cancelled"]
    assert {(message["phone"], message["text"]) for message in known.messages} == {(PHONE, "Hello")}
    assert [attempt["outcome"] for attempt in known.messages[0]["attempts"]] == ["accepted"]
    receipts = [(each["receipt"], each["receipt_code"]) for each in known.messages]
    assert (receipts[0], receipts[-1]) == (("undelivered", "27"), (None, None))
    assert "client.opted_out" in [event["kind"] for event in known.events]
    assert known.erased_at is None


async def test_a_message_to_a_client_who_is_gone_is_known_too(db: Database, api: Api) -> None:
    client_id = await written_to(db)
    await api.delete(f"/clients/{client_id}/")
    known = await db.commit(export_person, PHONE)
    assert known.client is None
    assert len(known.messages) == 3
    assert [event["client_id"] for event in known.events] == [client_id]
    assert "vip" in await anywhere(db)
    await erase(db.sessions, PHONE)
    assert "vip" not in await anywhere(db)


async def test_an_erased_person_is_nowhere_and_stays_counted(db: Database, api: Api) -> None:
    key = {"Idempotency-Key": "a-key-of-ours"}
    client_id = (await api.post("/clients/", json={"phone": PHONE, "timezone": "UTC"}, headers=key)).json()["id"]
    for status in ("pending", "sent"):
        await db.add_mailing_of([status], first_client=client_id)
    await db.run("UPDATE message SET phone = :p WHERE status = 'sent'", p=PHONE)
    await written_to(db, phone=OTHER)
    assert PHONE in await anywhere(db)
    erased = await erase(db.sessions, PHONE)
    assert (erased.client, erased.messages) == (True, 2)
    left = await anywhere(db)
    assert PHONE not in left
    assert OTHER in left
    assert (await api.get(f"/clients/{client_id}/")).status_code == 404
    total = (await api.get("/statistics/")).json()["messages"]
    assert (total["planned"], total["sent"], total["cancelled"], total["pending"]) == (5, 2, 1, 0)
    assert await db.value("SELECT client_id FROM event WHERE kind = 'client.erased'") == client_id


async def test_what_may_have_gone_to_an_erased_phone_is_not_repeated_there(db: Database) -> None:
    """Its client has another phone by now; an attempt that may have arrived is repeated to the old one."""
    client_id = await db.add_client(phone=OTHER)
    (_, [repeats]), (_, [goes_on]) = [await db.add_mailing_of(["pending"], first_client=client_id) for _ in range(2)]
    await db.run(
        """UPDATE message SET phone = :p, maybe_accepted = id = :id, counted_attempts = 1,
        wait_reason = 'retry', reason_code = 'http_status', reason_params = '{"http_status": 500}'""",
        p=PHONE,
        id=repeats,
    )
    assert not (await erase(db.sessions, PHONE)).client
    states = await db.run("SELECT id, status, phone, wait_reason, reason_code, reason_params FROM message ORDER BY id")
    assert states == [
        (repeats, "unknown", None, None, "person_erased", None),
        (goes_on, "pending", None, "retry", "http_status", {"http_status": 500}),
    ]


async def test_erasing_waits_for_a_call_and_says_so_where_it_does_not_end(db: Database) -> None:
    await written_to(db, ["sending"])
    with pytest.raises(Conflict, match="still in a call"):
        await erase(db.sessions, PHONE, timeout_s=0)
    work = asyncio.create_task(erase(db.sessions, PHONE))
    await db.run("UPDATE message SET status = 'sent', counted_attempts = 1, lease_until = NULL, finished_at = now()")
    await work
    assert PHONE not in await anywhere(db)


async def test_an_erased_phone_is_refused_by_the_api_until_it_is_lifted(db: Database, api: Api) -> None:
    other_id = await db.add_client(phone=OTHER)
    await erase(db.sessions, PHONE)
    body = {"phone": PHONE, "timezone": "Europe/Moscow"}
    answers = [
        await api.post("/clients/", json=body),
        await api.patch(f"/clients/{other_id}/", json={"phone": PHONE}),
        await api.put(f"/clients/{other_id}/", json=body),
    ]
    for answer in answers:
        assert answer.status_code == 409
        assert answer.json()["errors"][0]["field"] == "phone"
        assert "mailing privacy allow" in answer.json()["errors"][0]["message"]
        assert PHONE not in answer.text
    assert (await api.patch(f"/clients/{other_id}/", json={"tag": "vip"})).status_code == 200
    await db.commit(allow_again, PHONE)
    assert (await api.post("/clients/", json=body)).status_code == 201
    with pytest.raises(NotFound):
        await db.commit(allow_again, PHONE)


async def test_an_import_leaves_out_the_erased_and_says_so_in_the_order_of_lines(db: Database, api: Api) -> None:
    await erase(db.sessions, PHONE)
    lines = ["phone,timezone", f"{OTHER},UTC", f"{PHONE},UTC", "bad,UTC", f"{PHONE},UTC", "79031234569,UTC"]
    answer = (await api.post("/clients/import", content="\n".join(lines), headers={"Content-Type": "text/csv"})).json()
    assert (answer["created"], answer["updated"], answer["rejected"]) == (2, 0, 3)
    assert [(error["line"], error["field"]) for error in answer["errors"]] == [(3, "phone"), (4, "phone"), (5, "phone")]
    assert "erased" in answer["errors"][0]["message"]
    assert await db.value("SELECT count(*) FROM client") == 2


async def test_an_import_that_runs_while_somebody_is_erased_does_not_bring_them_back(db: Database, api: Api) -> None:
    content = "phone,timezone\n" + "".join(f"7916{n:07},UTC\n" for n in range(5000))
    for number in range(10):
        phone = f"7916{number:07}"
        posted = api.post("/clients/import", content=content, headers={"Content-Type": "text/csv"})
        answer, _ = await asyncio.gather(posted, erase(db.sessions, phone))
        assert answer.status_code == 200
        assert await db.value("SELECT count(*) FROM client WHERE phone = :phone", phone=phone) == 0


async def test_the_log_names_nobody_and_a_restored_backup_is_erased_again_by_it(db: Database) -> None:
    await written_to(db)
    await written_to(db, phone=OTHER)
    await erase(db.sessions, PHONE)
    log = await db.commit(erasure_log)
    assert len(log) == 1
    assert PHONE not in json.dumps([str(each) for each in log])
    await db.run("DELETE FROM erasure")  # what a backup from before the erasure brings back
    await written_to(db)
    assert await reapply(db.sessions, log) == 1
    left = await anywhere(db)
    assert PHONE not in left
    assert OTHER in left
    assert [(each.hash, each.erased_at) for each in await db.commit(erasure_log)] == [(log[0].hash, log[0].erased_at)]
    assert await reapply(db.sessions, log) == 0


async def test_the_newer_word_about_a_phone_holds(db: Database) -> None:
    await erase(db.sessions, PHONE)
    old = await db.commit(erasure_log)
    await db.commit(allow_again, PHONE)
    await db.add_client(phone=PHONE)
    assert await reapply(db.sessions, old) == 0
    assert await db.value("SELECT count(*) FROM client") == 1


async def test_the_log_of_another_installation_is_refused(db: Database) -> None:
    now = await db.commit(database_now)
    with pytest.raises(Invalid, match="another installation"):
        await reapply(db.sessions, [Erasure("0123456789abcdef", "0" * 64, now, None)])


async def test_an_erasure_repeated_keeps_its_date_and_one_after_a_lift_begins_anew(db: Database) -> None:
    await erase(db.sessions, PHONE)
    [first] = await db.commit(erasure_log)
    await erase(db.sessions, PHONE)
    assert await db.commit(erasure_log) == [first]
    await db.commit(allow_again, PHONE)
    await erase(db.sessions, PHONE)
    [anew] = await db.commit(erasure_log)
    assert anew.erased_at > first.erased_at
    assert anew.revoked_at is None
