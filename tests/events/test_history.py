"""Everything by id: what happened to a mailing, a message, a client, whole and in the order of time."""

import base64
import json
import re
from functools import partial

import pytest

from mailing.database.clock import database_now
from mailing.database.engine import transaction
from mailing.events.history import HISTORIES, HistoryCursor, Subject, history
from mailing.messages.rescheduling import SendWindow, reschedule_closed
from mailing.messages.states import MessageStatus
from mailing.reasons.codes import Reason, ReasonCode
from support import ROOT
from support.answers import Json, bad_fields, json_of
from support.api import Api
from support.database import Database
from support.mailing_requests import items_of_pages
from support.query_plans import ANALYZE, scans

CLIENT = {"phone": "79161234567", "timezone": "Europe/Moscow", "tag": "vip"}


async def events_of(api: Api, **whose: int | str) -> list[Json]:
    return list(json_of(await api.get("/events/", params=whose))["items"])


def kinds(events: list[Json]) -> list[str]:
    return [event["kind"] for event in events]


async def test_a_client_s_story_tells_who_changed_what_but_no_phone(api: Api) -> None:
    client = json_of(await api.post("/clients/", json=CLIENT), 201)
    path = f"/clients/{client['id']}/"
    await api.patch(path, json={"phone": "79037654321", "tag": "gold"}, headers={"X-Request-ID": "my-request"})
    await api.patch(path, json={"tag": "gold"})
    await api.patch(path, json={"opted_out": True})
    await api.delete(path)
    found = await events_of(api, client_id=client["id"])
    assert kinds(found) == ["client.created", "client.changed", "client.opted_out", "client.deleted"]
    assert {event["by"] for event in found} == {"MAILING_API_KEY"}
    assert found[1]["request_id"] == "my-request"
    assert found[1]["detail"] == {
        "fields": ["phone", "operator_code", "tag"],
        "old": {"operator_code": "916", "tag": "vip"},
        "new": {"operator_code": "903", "tag": "gold"},
    }
    assert "79161234567" not in json.dumps(found)
    assert "79037654321" not in json.dumps(found)


async def test_a_move_stands_before_the_expiry_that_it_causes(api: Api, db: Database) -> None:
    """Also where the settle job had begun before it, and waited for it."""
    mailing_id, _ = await db.add_audience(["pending"])
    never = SendWindow("Asia/Omsk", None, None, Reason(ReasonCode.no_window))
    async with transaction(db.sessions) as settling:
        await database_now(settling)
        await api.patch("/clients/1/", json={"timezone": "Asia/Omsk"})
        assert await reschedule_closed(settling, mailing_id, 1, [never]) == 1
    assert kinds(await events_of(api, client_id=1))[-2:] == ["client.changed", "message.expired"]


async def test_an_import_stands_in_the_story_of_each_client_that_it_made_or_changed(api: Api) -> None:
    """Also when the client is gone."""
    head, row = "phone,timezone,tag\n", "79161234567,Europe/Moscow,"
    json_of(await api.post("/clients/import", content=f"{head}{row}vip\n79161234568,UTC,a\n"))
    json_of(await api.post("/clients/import", content=f"{head}{row}gold\n79161234568,UTC,a\n"))
    made, changed = await events_of(api, client_id=1)
    assert (made["kind"], made["detail"]) == (
        "clients.imported",
        {"created": 2, "updated": 0, "normalised": 0, "opted_out": 0, "rejected": 0},
    )
    assert (changed["kind"], changed["by"]) == ("client.changed", "MAILING_API_KEY")
    assert changed["detail"] == {"import": True, "fields": ["tag"], "old": {"tag": "vip"}, "new": {"tag": "gold"}}
    assert kinds(await events_of(api, client_id=2)) == ["clients.imported"]
    await api.delete("/clients/1/")
    assert kinds(await events_of(api, client_id=1)) == ["clients.imported", "client.changed", "client.deleted"]


async def test_a_message_s_story_has_its_mailing_s_and_its_client_s_events_in_it(api: Api, db: Database) -> None:
    client_id, mailing_id = await db.add_client(), await db.add_mailing()
    mine, other = await db.add_messages(mailing_id, ["failed", "unknown"], first_client=client_id)
    await db.add_attempt(mine, "ambiguous", ago="2 min")
    await db.add_attempt(mine, "refused", number=2, ago="1 min")
    await db.add_attempt(other, "ambiguous", ago="1 min")
    json_of(await api.post(f"/mailings/{mailing_id}/pause"))
    json_of(await api.patch(f"/clients/{client_id}/", json={"tag": "gold"}))
    json_of(await api.post(f"/messages/{other}/resolve", json={"as": "sent"}))
    found = await events_of(api, message_id=mine)
    assert kinds(found) == [
        *("message.attempted", "message.attempted", "message.failed", "mailing.paused", "client.changed")
    ]
    called = {"number": 1, "outcome": "ambiguous", "http_status": 200, "code": 0, "duration_ms": 12}
    assert found[0]["detail"] == called
    assert {event["message_id"] for event in found} == {mine, None}
    assert (found[0]["mailing_id"], found[0]["client_id"]) == (mailing_id, client_id)
    assert [event["at"] for event in found] == sorted(event["at"] for event in found)


async def test_a_mailing_s_story_has_the_calls_of_all_its_messages_and_the_stops_of_its_time(
    api: Api, db: Database
) -> None:
    mailing_id, other = await db.add_mailing(), await db.add_mailing(status="scheduled")
    first, second = await db.add_messages(mailing_id, ["sent", "unknown"])
    await db.add_attempt(first, "accepted", ago="3 min")
    await db.add_attempt(second, "ambiguous", ago="2 min")
    json_of(await api.post("/gateway/stop"))
    json_of(await api.post(f"/messages/{second}/resolve", json={"as": "failed"}))
    await api.delete(f"/mailings/{mailing_id}")
    found = await events_of(api, mailing_id=mailing_id)
    assert kinds(found) == [
        *("message.attempted", "message.attempted", "gateway.stopped", "message.resolved", "mailing.deleted")
    ]
    assert await events_of(api, mailing_id=other) == []


async def test_pages_leave_nothing_out_and_show_nothing_twice_also_within_one_moment(api: Api, db: Database) -> None:
    mailing_id, ids = await db.add_mailing_of(["sent"] * 3)
    for id_ in ids:
        await db.add_attempt(id_, "not_sent", ago="1 min")
        await db.add_attempt(id_, "accepted", number=2, ago="1 min")
    event = "INSERT INTO event (kind, actor, mailing_id) VALUES (:kind, 'a', :id)"
    for kind in ("mailing.paused", "mailing.resumed"):
        await db.run(event, kind=kind, id=mailing_id)
    for table, column in (("attempt", "started_at"), ("event", "at")):
        await db.run(f"UPDATE {table} SET {column} = '2026-05-01T10:00:00Z'")
    whole = await events_of(api, mailing_id=mailing_id, limit=500)
    assert len(whole) == 8
    assert await items_of_pages(api, "/events/", mailing_id=mailing_id, limit=1) == whole


def test_the_documentation_names_every_kind_of_event() -> None:
    kind = r"(?:clients?|mailing|gateway|database|message)\.[a-z]+(?:_[a-z]+)*"
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))
    noted = set(re.findall(rf"""record_event\(\s*(?:self\.)?session,\s*"({kind})\"""", sources))
    by_sql = set(re.findall(rf"SELECT '({kind})'", sources)) | {
        *("message.attempted", "client.opted_out", "client.opted_in")
    }
    ended = {f"message.{status}" for status in MessageStatus if status not in {"pending", "sending"}}
    documented = set(re.findall(rf"`({kind})`", (ROOT / "docs" / "api.md").read_text(encoding="utf-8")))
    assert documented == noted | by_sql | ended


async def test_exactly_one_id_is_asked_for(api: Api) -> None:
    none, two = await api.get("/events/"), await api.get("/events/", params={"client_id": 1, "mailing_id": 2})
    assert bad_fields(none) == ["mailing_id"]
    assert bad_fields(two) == ["mailing_id", "client_id"]


@pytest.mark.parametrize("cursor", ["x", base64.urlsafe_b64encode(b"\xff" * 21).decode(), "A" * 27 + "\0", "A" * 28])
async def test_no_cursor_is_a_fault_of_ours(api: Api, cursor: str) -> None:
    answer = await api.get("/events/", params={"client_id": 1, "cursor": cursor})
    assert answer.status_code in {200, 400}


async def test_an_id_that_never_was_has_no_story(api: Api) -> None:
    for whose in HISTORIES:
        assert await events_of(api, **{whose: 2**53 - 1}) == []


async def test_a_page_reads_its_place_in_the_indexes_and_nothing_else(db: Database) -> None:
    """20,000 messages of two mailings, and an event for each."""
    await db.add_clients(10_000)
    for _ in range(2):
        await db.add_mailing_of(["sent"] * 10_000)
    for statement in (*FILL, ANALYZE):
        await db.run(statement)
    async with db.sessions() as session:
        middle = (await history(session, "mailing_id", 1, after=HistoryCursor(), limit=500))[250][0]
    whose: Subject
    for whose in HISTORIES:
        for place in (HistoryCursor(), middle):
            page = partial(history, subject=whose, id_=1, after=place, limit=50)
            read = [node for node in await scans(db.engine, page, analyse=False) if "Relation Name" in node]
            of_many = [node for node in read if node["Relation Name"] != "mailing"]
            assert {node["Relation Name"] for node in of_many if "Seq" in node["Node Type"]} == set()
            assert sum(node.get("Rows Removed by Filter", 0) for node in of_many) <= 5  # what one client has
            assert max(node["Actual Rows"] * node["Actual Loops"] for node in of_many) <= 51


FILL = (
    """INSERT INTO attempt (message_id, mailing_id, number, started_at, outcome)
    SELECT id, mailing_id, 1, now() - interval '1 h' + id * interval '1 ms', 'accepted' FROM message""",
    """INSERT INTO event (kind, actor, mailing_id, message_id, client_id)
    SELECT 'message.resolved', 'a', mailing_id, id, client_id FROM message""",
    "INSERT INTO receipt (message_id, mailing_id, state, at) SELECT id, mailing_id, 3, now() FROM message",
)
