"""The preview, compared with what is then planned."""

import random
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from mailing.mailings.audience import reach_of_edit
from mailing.messages.planning import Audience
from mailing.sending.plan import plan_mailing
from support import mailing_requests
from support.answers import Json, bad_fields, json_of
from support.api import Api
from support.database import Database
from support.database_copies import end_idle_connections
from support.mailing_requests import in_hours
from support.query_plans import ANALYZE, Plan, nodes, plans, rows_read, scans

ZONES = ["UTC", "Europe/Moscow", "Europe/Kaliningrad", "Asia/Kolkata", "Asia/Vladivostok", "America/New_York"]
TAGS = [None, "vip", "new", "old"]


def body(**changes: Any) -> Json:  # noqa: ANN401 - JSON
    return mailing_requests.body(**{"starts_at": in_hours(-1), **changes})


async def planned(api: Api, db: Database, given: Json) -> int:
    """Create a mailing and plan it."""
    mailing_id: int = json_of(await api.post("/mailings/", json=given), 201)["id"]
    await plan_mailing(db.sessions, mailing_id)
    return mailing_id


async def previewed(api: Api, given: Json, **params: int) -> Json:
    return json_of(await api.post("/mailings/preview", json=given, params=params))


async def populate(db: Database, chance: random.Random, count: int = 300) -> None:
    drawn_clients = [
        (f"7{chance.choice([916, 903, 925])}{number:07}", chance.choice(TAGS), chance.choice(ZONES), chance.random())
        for number in range(count)
    ]
    phones, tags, zones, opted_out = zip(*drawn_clients, strict=True)
    await db.run(
        """INSERT INTO client (phone, operator_code, tag, timezone, opted_out)
        SELECT phone, substr(phone, 2, 3), tag, zone, chance < 0.1
        FROM unnest(CAST(:phones AS text[]), CAST(:tags AS text[]), CAST(:zones AS text[]), CAST(:chances AS float8[]))
            AS drawn (phone, tag, zone, chance)""",
        phones=list(phones), tags=list(tags), zones=list(zones), chances=list(opted_out)
    )  # fmt: skip


def drawn(chance: random.Random) -> Json:
    hours = chance.sample(range(24), 2)
    window = {"start": f"{hours[0]:02}:00", "end": f"{hours[1]:02}:30"}
    return body(
        ends_at=(datetime.now(UTC) + timedelta(hours=chance.uniform(0.5, 12))).isoformat(),
        filter={
            "tags": chance.sample(["vip", "new", "none of them"], chance.randrange(3)),
            "operator_codes": chance.sample(["916", "903"], chance.randrange(3)),
        },
        local_window=chance.choice([None, window, window]),
    )


@pytest.mark.parametrize("seed", range(4))
async def test_as_many_are_planned_and_expire_as_the_preview_said(db: Database, api: Api, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - a test that can be repeated
    await populate(db, chance)
    for _ in range(5):
        given = drawn(chance)
        foretold = await previewed(api, given)
        mailing_id = await planned(api, db, given)
        counted = await db.statuses(mailing_id)
        assert sum(counted.values()) == foretold["recipients"] == 300 - sum(foretold["excluded"].values())
        assert counted.get("expired", 0) == foretold["missed"]["no_window"]
        assert await zones_of(db, mailing_id) == {zone["timezone"]: zone["recipients"] for zone in foretold["zones"]}
        await _edited_as_foretold(db, api, mailing_id=mailing_id, given=drawn(chance))


async def _edited_as_foretold(db: Database, api: Api, *, mailing_id: int, given: Json) -> None:
    """Half of what is pending has gone out; the edit plans the rest anew."""
    await db.run(
        """UPDATE message SET status = 'sending', claim_no = 1, counted_attempts = 1, phone = '79160000000',
            lease_until = now() + interval '1 h'
        WHERE mailing_id = :id AND status = 'pending' AND id % 2 = 0""",
        id=mailing_id,
    )
    given["starts_at"] = json_of(await api.get(f"/mailings/{mailing_id}/"))["starts_at"]
    before = await db.statuses(mailing_id)
    foretold = await previewed(api, given, mailing_id=mailing_id)
    json_of(await api.put(f"/mailings/{mailing_id}/", json=given))
    await plan_mailing(db.sessions, mailing_id)
    after = await db.statuses(mailing_id)
    assert after.get("sending", 0) == before.get("sending", 0)
    assert after.get("pending", 0) == foretold["recipients"] - foretold["missed"]["no_window"]
    assert after.get("cancelled", 0) == foretold["stopped"]


async def test_a_client_with_a_phone_that_got_the_mailing_is_unaffected_by_an_edit(db: Database, api: Api) -> None:
    first = await db.add_client(phone="79160000001")
    given = body()
    mailing_id = await planned(api, db, given)
    await db.run(
        """UPDATE message SET status = 'sent', claim_no = 1, counted_attempts = 1, phone = '79160000001',
            text_revision = 1, finished_at = now()"""
    )
    json_of(await api.patch(f"/clients/{first}/", json={"phone": "79160000002"}))
    await db.add_client(phone="79160000001")
    await db.add_client(phone="79160000003")
    reworded = await previewed(api, given | {"text": "Bye"}, mailing_id=mailing_id)
    assert (reworded["recipients"], reworded["excluded"]["unaffected"]) == (1, 2)


async def test_an_edit_looks_up_each_client_among_the_former_phones_and_does_not_read_them_all(db: Database) -> None:
    mailing_id, _ = await db.add_audience(["sent"] * 100)
    await db.run("DELETE FROM client")
    await db.run("UPDATE former_phone SET phone_hash = sha256(int8send(message_id))")  # each had a phone of its own
    await db.add_clients(200)
    await db.run("ANALYZE client, message")  # the clients were deleted just now
    call = partial(reach_of_edit, audience=Audience([], [], 2**31), mailing_id=mailing_id, replans=True)
    read = [scan for scan in await scans(db.engine, call, analyse=False) if "former_phone" in str(scan)]
    assert 0 < sum(map(rows_read, read)) < 400


async def test_an_edit_is_counted_by_several_processes_and_no_client_is_sorted(db: Database, api: Api) -> None:
    await populate(db, random.Random(0), 3000)  # noqa: S311 - a test that can be repeated
    mailing_id = await planned(api, db, body())
    for setting in ("min_parallel_index_scan_size", "parallel_setup_cost", "parallel_tuple_cost"):
        await db.run(f"DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET {setting} = 0', current_database()); END $$")
    await db.run(ANALYZE)
    await db.engine.dispose()
    end_idle_connections()
    everyone = Audience(["vip"], [], 2**31)
    call = partial(reach_of_edit, audience=everyone, mailing_id=mailing_id, replans=True)
    *_, counted = await plans(db.engine, call)
    steps = list(nodes(counted))
    assert {"Gather", "Gather Merge"} & {step["Node Type"] for step in steps}
    assert all(step["Actual Rows"] < 100 for step in steps if step["Node Type"] == "Sort"), "groups, not clients"
    assert not any("Subplan Name" in step for step in steps if is_of_clients(step))


def is_of_clients(step: Plan) -> bool:
    return any(below.get("Relation Name") in {"client", "message"} for below in nodes(step))


async def zones_of(db: Database, mailing_id: int) -> dict[str, int]:
    counted = await db.run(
        """SELECT timezone, count(*) FROM message m JOIN client c ON c.id = m.client_id
        WHERE mailing_id = :id GROUP BY timezone""",
        id=mailing_id,
    )
    return dict(tuple(each) for each in counted)


async def test_each_client_that_gets_nothing_stands_under_its_first_reason(db: Database, api: Api) -> None:
    await db.add_client(phone="79160000001", tag="vip")
    await db.add_client(phone="79160000002", tag="vip")
    await db.add_client(phone="79030000003", tag="vip")
    await db.add_client(phone="79160000004")
    await db.add_client(phone="79030000005")
    await db.run("UPDATE client SET opted_out = true WHERE phone IN ('79160000002', '79030000005')")
    found = await previewed(api, body(filter={"tags": ["vip"], "operator_codes": ["916"]}))
    assert found["recipients"] == 1
    assert found["excluded"] == {"tag": 2, "operator_code": 1, "opted_out": 1, "unaffected": 0}


async def test_it_says_when_all_is_done_at_the_rate_limit_and_how_many_the_end_comes_before(
    db: Database, api: Api
) -> None:
    for number in range(20):
        await db.add_client(phone=f"7916{number:07}")
    json_of(await api.patch("/gateway/", json={"rate": 0.01}))
    now = datetime.now(UTC)
    long = await previewed(api, body(text="Привет"))
    assert long["rate"] == {"per_second": pytest.approx(0.01 / 1.05), "source": "limit"}
    wait = datetime.fromisoformat(long["done_at"]) - datetime.fromisoformat(long["begins_at"])
    assert wait.total_seconds() == pytest.approx(20 * 1.05 / 0.01, abs=1)
    assert (long["sms"]["encoding"], long["sms_total"], long["missed"]) == ("ucs2", 20, {"no_window": 0, "too_late": 0})
    short = await previewed(api, body(ends_at=(now + timedelta(seconds=1055)).isoformat()))
    assert short["done_at"] is None
    assert short["missed"] == {"no_window": 0, "too_late": 10}
    assert sum(hour["messages"] for hour in short["hours"]) == 10


async def test_without_a_limit_the_rate_is_what_was_measured_or_not_known(db: Database, api: Api) -> None:
    await db.add_client()
    unknown = await previewed(api, body())
    assert (unknown["rate"], unknown["done_at"]) == (None, None)
    assert [hour["messages"] for hour in unknown["hours"]] == [1]
    await db.run("INSERT INTO gateway_calls VALUES (date_bin('5 s', now(), 'epoch'), 200, 0)")
    measured = await previewed(api, body())
    assert measured["rate"] == {"per_second": 40.0, "source": "measured"}
    assert measured["done_at"] is not None


async def test_nothing_is_stored(db: Database, api: Api) -> None:
    await previewed(api, body())
    for table in ("mailing", "message", "event", "procrastinate_jobs"):
        assert await db.value(f"SELECT count(*) FROM {table}") == 0


@pytest.mark.parametrize("blank", [" ", "\n", "\u200b", " \ufeff\u2060"])
async def test_what_creating_would_refuse_the_preview_refuses(blank: str, api: Api) -> None:
    past = await api.post(
        "/mailings/preview", json=body(ends_at="2026-01-01T00:00:00Z", starts_at="2025-01-01T00:00:00Z")
    )
    assert (past.status_code, past.json()["errors"][0]["field"]) == (400, "ends_at")
    bad = await api.post("/mailings/preview", json={"text": blank})
    assert set(bad_fields(bad)) == {"text", "starts_at", "ends_at"}


async def test_what_an_edit_would_refuse_its_preview_refuses(db: Database, api: Api) -> None:
    assert (await api.post("/mailings/preview?mailing_id=1", json=body())).status_code == 404
    finished = await db.add_mailing(status="finished")
    assert (await api.post(f"/mailings/preview?mailing_id={finished}", json=body())).status_code == 409
    running = await db.add_mailing()
    moved = await api.post(f"/mailings/preview?mailing_id={running}", json=body())
    assert (moved.status_code, moved.json()["detail"].split()[0]) == (409, "starts_at")


async def test_a_new_text_alone_plans_again_as_any_edit_does_and_no_change_plans_nothing(
    db: Database, api: Api
) -> None:
    await db.add_client()
    given = body()
    mailing_id = await planned(api, db, given)
    await db.run("UPDATE message SET status = 'expired', finished_at = now()")
    await db.add_client(phone="79160000002")
    reworded = await previewed(api, given | {"text": "Bye"}, mailing_id=mailing_id)
    unchanged = await previewed(api, given, mailing_id=mailing_id)
    assert (reworded["recipients"], reworded["excluded"]["unaffected"]) == (2, 0)
    assert (unchanged["recipients"], unchanged["excluded"]["unaffected"]) == (0, 2)
    assert (await api.patch(f"/mailings/{mailing_id}/", json={"text": "Bye"})).status_code == 200
    await plan_mailing(db.sessions, mailing_id)
    assert await db.value("SELECT pending FROM mailing_counts") == 2
