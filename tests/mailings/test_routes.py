"""The life of a mailing over the API. The database is looked into only for what the API does not show."""

import asyncio
import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from sqlalchemy.ext.asyncio import AsyncEngine

from mailing.mailings.rules import OPEN, Status
from mailings.asking import statuses
from rows import add_mailing, add_messages, run, value

Api = httpx.AsyncClient
Json = dict[str, Any]

ALL = {
    "text": "Осенняя распродажа: 20 % 🍂\n\u202e\u05e9\u05dc\u05d5\u05dd\u202c",
    "filter": {"tags": ["vip", "Ё 'quoted' \"%s\"; --"], "operator_codes": ["916", "903"]},
    "local_window": {"start": "22:30", "end": "06:00"},
}
CLOSED = [status for status in Status if status not in OPEN]


def in_hours(hours: float) -> str:
    return (datetime.now(UTC) + timedelta(hours=hours)).isoformat().replace("+00:00", "Z")


def body(**changes: Any) -> Json:  # noqa: ANN401 - JSON
    return {"text": "Hello", "starts_at": in_hours(1), "ends_at": in_hours(24)} | changes


async def created(api: Api, **changes: Any) -> Json:  # noqa: ANN401 - JSON
    answer = await api.post("/mailings/", json=body(**changes))
    assert answer.status_code == 201, answer.text
    found: Json = answer.json()
    return found


async def read(api: Api, mailing_id: int) -> Json:
    answer = await api.get(f"/mailings/{mailing_id}/")
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()
    return found


async def row(engine: AsyncEngine, mailing_id: int) -> Json:
    return dict((await run(engine, "SELECT * FROM mailing WHERE id = :id", id=mailing_id))[0]._asdict())


async def jobs(engine: AsyncEngine, *, after: int = 0) -> list[tuple[str, int, datetime | None]]:
    rows = await run(
        engine,
        """SELECT task_name, (args->>'mailing_id')::int, scheduled_at FROM procrastinate_jobs
        WHERE id > :after ORDER BY id""",
        after=after,
    )
    return [(each[0], each[1], each[2]) for each in rows]


async def newest_job(engine: AsyncEngine) -> int:
    newest: int = await value(engine, "SELECT coalesce(max(id), 0) FROM procrastinate_jobs")
    return newest


def whole(found: Json) -> Json:
    """What a PUT needs to leave a mailing as it is."""
    return {name: found[name] for name in ("text", "starts_at", "ends_at", "filter", "local_window")}


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


def fields(answer: httpx.Response) -> set[str]:
    assert answer.status_code == 400, answer.text
    return {error["field"] for error in answer.json()["errors"]}


# --- create ---------------------------------------------------------------------------------------------------------


async def test_a_mailing_with_a_start_to_come_is_scheduled(engine: AsyncEngine, api: Api) -> None:
    given = body()
    answer = await api.post("/mailings/", json=given)
    assert answer.status_code == 201
    found = answer.json()
    assert answer.headers["location"] == f"/mailing/api/mailings/{found['id']}/"
    assert list(found) == [
        *("id", "text", "starts_at", "ends_at", "filter", "local_window", "status", "created_at", "updated_at")
    ]
    assert found | given == found
    assert (found["status"], found["filter"], found["local_window"]) == (
        "scheduled",
        {"tags": [], "operator_codes": []},
        None,
    )
    assert found["created_at"] == found["updated_at"]
    assert await read(api, found["id"]) == found
    assert await jobs(engine) == [
        ("plan_mailing", found["id"], instant(given["starts_at"])),
        ("settle_mailing", found["id"], instant(given["ends_at"])),
    ]


async def test_a_mailing_whose_start_has_passed_is_started_at_once(engine: AsyncEngine, api: Api) -> None:
    found = await created(api, starts_at=in_hours(-1))
    assert found["status"] == "running"
    assert await jobs(engine) == [
        ("plan_mailing", found["id"], None),
        ("settle_mailing", found["id"], instant(found["ends_at"])),
    ]
    assert (await api.get(f"/statistics/{found['id']}/")).json()["launched"] is True


async def test_every_field_comes_back_as_it_was_given(api: Api) -> None:
    found = await created(api, **ALL)
    assert found | ALL == found
    assert await read(api, found["id"]) == found


async def test_instants_are_taken_with_any_offset_and_shown_in_utc(api: Api) -> None:
    found = await created(api, starts_at="2031-05-01T12:00:00.123456+05:45", ends_at="2031-05-01t12:00:00-11:00")
    assert (found["starts_at"], found["ends_at"]) == ("2031-05-01T06:15:00.123456Z", "2031-05-01T23:00:00Z")


async def test_the_longest_text_the_most_tags_and_the_farthest_years_are_taken(api: Api) -> None:
    most = {"tags": [f"{number:03}" + "я" * 97 for number in range(100)], "operator_codes": ["000", "999"] * 50}
    found = await created(
        api, text="🍂" * 1600, filter=most, starts_at="2000-01-01T00:00:00Z", ends_at="2099-12-31T23:59:59.999999Z"
    )
    assert found["status"] == "running"
    assert found["filter"] == most


MISSING = object()
WRONG_TYPES = [None, True, 5, -(2**63), 2**64, 1e300, [], ["x"], {}, {"x": 1}]

# What is wrong in the body, and the fields that have to be named.
NO_LISTS: list[object] = [None, "916", 916, {}, ["916"] * 101]
BAD: list[tuple[Json, set[str]]] = [
    *(({name: wrong}, {name}) for name in ("text", "starts_at", "ends_at") for wrong in WRONG_TYPES),
    *(({"text": text}, {"text"}) for text in ("", " ", " \n\t\u00a0\u2003", "x" * 1601, "a\x00b", "\x00")),
    *(
        ({name: text}, {name})
        for name in ("starts_at", "ends_at")
        for text in (
            *("", "now", "2031-01-01", "2031-01-01T00:00:00", "2031-01-01T00:00", "2031-13-01T00:00:00Z"),
            *("2031-02-29T00:00:00Z", "2031-01-01T24:00:00Z", "2031-01-01T00:00:00+25:00", "1999-12-31T23:59:59Z"),
            *("0000-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "2100-01-01T00:00:00Z", "9999-12-31T23:59:59-14:00"),
            *("+12031-01-01T00:00:00Z", "2031-01-01T00:00:00Z\x00", "1893456000"),
        )
    ),
    ({"starts_at": in_hours(2), "ends_at": in_hours(1)}, {"ends_at"}),
    ({"starts_at": "2031-01-01T00:00:00Z", "ends_at": "2031-01-01T03:00:00+03:00"}, {"ends_at"}),
    ({"starts_at": in_hours(-2), "ends_at": in_hours(-1)}, {"ends_at"}),
    ({"starts_at": in_hours(-2), "ends_at": in_hours(-0.0001)}, {"ends_at"}),
    *(({"filter": wrong}, {"filter"}) for wrong in (None, True, 5, "x", [], ["vip"])),
    *(({"filter": {name: wrong}}, {f"filter.{name}"}) for name in ("tags", "operator_codes") for wrong in NO_LISTS),
    *(({"filter": {"tags": ["ok", wrong]}}, {"filter.tags.1"}) for wrong in [*WRONG_TYPES, "", "x" * 101, "a\x00"]),
    *(
        ({"filter": {"operator_codes": [wrong, "916"]}}, {"filter.operator_codes.0"})
        for wrong in (None, "", 916, "91", "9166", "91a", "916\n", "\u0669\u0661\u0666", "9 6")
    ),
    ({"filter": {"tag": ["vip"]}}, {"filter.tag"}),
    ({"filter": {"tags": ["", "ok", 5], "operator_codes": ["x"], "x": 1}},
     {"filter.tags.0", "filter.tags.2", "filter.operator_codes.0", "filter.x"}),
    *(({"local_window": wrong}, {"local_window"}) for wrong in (True, 5, "09:00-21:00", [], ["09:00", "21:00"])),
    *(
        ({"local_window": {"start": wrong, "end": "21:00"}}, {"local_window.start"})
        for wrong in (None, "", 9, "24:00", "9:00", "09:60", "09:00:00", "09:00\n", "-1:00", "09.00", "\u0660\u0669:00")
    ),
    ({"local_window": {}}, {"local_window.start", "local_window.end"}),
    ({"local_window": {"start": "09:00"}}, {"local_window.end"}),
    ({"local_window": {"start": "09:00", "end": "09:00"}}, {"local_window.end"}),
    ({"local_window": {"start": "09:00", "end": "21:00", "zone": "UTC"}}, {"local_window.zone"}),
    *(({name: 1}, {name}) for name in ("id", "status", "created_at", "Text", "", "x" * 100, "текст")),
    ({"text": "", "starts_at": 5, "ends_at": None, "filter": 1, "local_window": 1, "x": 1},
     {"text", "starts_at", "ends_at", "filter", "local_window", "x"}),
    ({"text": float("nan")}, {"body"}),
    ({"text": "\ud800"}, {"body"}),
]  # fmt: skip
BAD_WHOLE: list[tuple[Json, set[str]]] = [
    *(({name: MISSING}, {name}) for name in ("text", "starts_at", "ends_at")),
    ({"text": MISSING, "starts_at": MISSING, "ends_at": MISSING}, {"text", "starts_at", "ends_at"}),
    ({"text": MISSING, "filter": {"tags": 5}, "x": 1}, {"text", "filter.tags", "x"}),
]


def sent(given: Json) -> bytes:
    return json.dumps({name: given[name] for name in given if given[name] is not MISSING}).encode()


async def test_every_bad_field_is_refused_and_named_and_nothing_is_stored(engine: AsyncEngine, api: Api) -> None:
    for changes, named in BAD + BAD_WHOLE:
        assert fields(await api.post("/mailings/", content=sent(body(**changes)))) == named, changes
    assert await run(engine, "SELECT id FROM mailing UNION ALL SELECT id FROM procrastinate_jobs") == []


async def test_an_edit_is_refused_for_the_same_and_changes_nothing(engine: AsyncEngine, api: Api) -> None:
    found = await created(api, **ALL)
    job = await newest_job(engine)
    for changes, named in BAD + BAD_WHOLE:
        answer = await api.put(f"/mailings/{found['id']}/", content=sent(body(**changes)))
        assert fields(answer) == named, changes
    for changes, named in BAD:
        answer = await api.patch(f"/mailings/{found['id']}/", content=sent(changes))
        assert fields(answer) == named, changes
    assert await read(api, found["id"]) == found
    assert await jobs(engine, after=job) == []


async def test_no_refusal_repeats_what_was_given(api: Api) -> None:
    secret = "s3cret 79161234567"
    given = body(
        text=secret * 100, starts_at=secret, ends_at=secret, filter={"tags": secret, "operator_codes": [secret]}
    )
    answer = await api.post("/mailings/", json=given | {"local_window": {"start": secret, "end": secret}})
    assert len(fields(answer)) == 7
    assert "s3cret" not in answer.text


# --- read -----------------------------------------------------------------------------------------------------------


async def test_a_trailing_slash_never_matters(api: Api) -> None:
    for slash in ("", "/"):
        answer = await api.post(f"/mailings{slash}", json=body(starts_at=in_hours(-1)))
        path = f"/mailings/{answer.json()['id']}"
        assert (await api.get(f"/mailings{slash}")).status_code == 200
        assert (await api.get(f"{path}{slash}")).status_code == 200
        assert (await api.put(f"{path}{slash}", json=whole(answer.json()))).status_code == 200
        assert (await api.patch(f"{path}{slash}", json={})).status_code == 200
        for action in ("pause", "resume", "cancel"):
            assert (await api.post(f"{path}/{action}{slash}")).status_code == 200
        assert (await api.delete(f"{path}{slash}")).status_code == 204


async def pages(api: Api, path: str, **parameters: Any) -> list[Json]:  # noqa: ANN401 - query parameters
    """All pages, as many as there are."""
    found = [(await api.get(path, params=parameters)).json()]
    while found[-1]["next_cursor"]:
        found.append((await api.get(path, params=parameters | {"cursor": found[-1]["next_cursor"]})).json())
    return found


async def test_the_pages_of_a_list_join_without_gap_or_repeat_while_rows_are_added(
    engine: AsyncEngine, api: Api
) -> None:
    ids = [await add_mailing(engine) for _ in range(7)]
    seen: list[int] = []
    sizes: list[int] = []
    cursor = None
    while True:
        page = (await api.get("/mailings/", params={"limit": 3} | ({"cursor": cursor} if cursor else {}))).json()
        seen += [item["id"] for item in page["items"]]
        sizes.append(len(page["items"]))
        if len(ids) < 11:
            ids += [await add_mailing(engine), await add_mailing(engine)]
        if not (cursor := page["next_cursor"]):
            break
    assert seen == ids
    assert sizes == [3, 3, 3, 2]


async def test_a_list_ends_where_its_last_page_is_full_or_empty(engine: AsyncEngine, api: Api) -> None:
    assert (await api.get("/mailings/")).json() == {"items": [], "next_cursor": None}
    ids = [await add_mailing(engine) for _ in range(4)]
    assert [len(page["items"]) for page in await pages(api, "/mailings/", limit=2)] == [2, 2]
    assert [len(page["items"]) for page in await pages(api, "/mailings/", limit=4)] == [4]
    assert [len(page["items"]) for page in await pages(api, "/mailings/", limit=500)] == [4]
    assert [item["id"] for page in await pages(api, "/mailings/", limit=1) for item in page["items"]] == ids


async def test_a_list_can_be_had_of_one_status_and_never_shows_what_was_deleted(engine: AsyncEngine, api: Api) -> None:
    ids = [(status, await add_mailing(engine, status=status)) for _ in range(3) for status in Status]
    gone = ids[len(Status) : 2 * len(Status)]
    for _, mailing_id in gone:
        assert (await api.delete(f"/mailings/{mailing_id}/")).status_code == 204
    for status in Status:
        found = await pages(api, "/mailings/", limit=1, status=status)
        listed = [item["id"] for page in found for item in page["items"]]
        assert listed == [mailing_id for each, mailing_id in ids if each == status and (each, mailing_id) not in gone]


async def test_without_a_limit_a_page_holds_fifty(engine: AsyncEngine, api: Api) -> None:
    await run(
        engine,
        """INSERT INTO mailing (text, starts_at, ends_at)
        SELECT 'x', now() + interval '1 h', now() + interval '2 h' FROM generate_series(1, 501)""",
    )
    assert [len(page["items"]) for page in await pages(api, "/mailings/", limit=500)] == [500, 1]
    assert len((await api.get("/mailings/")).json()["items"]) == 50


# --- replace and change ---------------------------------------------------------------------------------------------


async def test_a_put_gives_what_is_left_out_its_default(api: Api) -> None:
    found = await created(api, **ALL)
    given = {"text": "New", "starts_at": found["starts_at"], "ends_at": found["ends_at"]}
    answer = await api.put(f"/mailings/{found['id']}/", json=given)
    assert answer.status_code == 200
    defaults: Json = {"filter": {"tags": [], "operator_codes": []}, "local_window": None}
    assert answer.json() == found | given | defaults | {"updated_at": answer.json()["updated_at"]}
    assert instant(answer.json()["updated_at"]) > instant(found["updated_at"])
    assert await read(api, found["id"]) == answer.json()


async def test_a_patch_changes_only_what_it_names(api: Api) -> None:
    expected = await created(api, **ALL)
    changes: list[Json] = [
        {},
        {"text": "New"},
        {"filter": {"tags": ["new"]}},
        {"filter": {}},
        {"local_window": {"start": "09:00", "end": "18:00"}},
        {"local_window": None},
        {"local_window": None},
        {"starts_at": in_hours(2)},
        {"ends_at": in_hours(30)},
        {"starts_at": in_hours(40), "ends_at": in_hours(50)},
    ]
    for change in changes:
        answer = await api.patch(f"/mailings/{expected['id']}/", json=change)
        assert answer.status_code == 200, answer.text
        expected |= change | {"updated_at": answer.json()["updated_at"]}
        expected["filter"] = {"tags": [], "operator_codes": []} | expected["filter"]
        assert answer.json() == expected
        assert await read(api, expected["id"]) == expected


async def test_an_edit_that_repeats_what_is_there_changes_nothing(engine: AsyncEngine, api: Api) -> None:
    for start in (1, -1):
        found = await created(api, starts_at=in_hours(start), **ALL)
        before, job = await row(engine, found["id"]), await newest_job(engine)
        for answer in (
            await api.patch(f"/mailings/{found['id']}/", json={}),
            await api.patch(f"/mailings/{found['id']}/", json=whole(found)),
            await api.put(f"/mailings/{found['id']}/", json=whole(found)),
        ):
            assert (answer.status_code, answer.json()) == (200, found)
        assert await row(engine, found["id"]) == before
        assert await jobs(engine, after=job) == []


async def test_a_patch_that_leaves_no_time_between_start_and_end_is_refused(engine: AsyncEngine, api: Api) -> None:
    found = await created(api, starts_at=in_hours(2), ends_at=in_hours(4))
    for change in (
        {"ends_at": found["starts_at"]},
        {"ends_at": in_hours(1)},
        {"starts_at": found["ends_at"]},
        {"starts_at": in_hours(5)},
        {"starts_at": in_hours(5), "text": "New"},
    ):
        assert fields(await api.patch(f"/mailings/{found['id']}/", json=change)) == {"ends_at"}
    assert await read(api, found["id"]) == found
    assert (await row(engine, found["id"]))["text_revision"] == 1


async def test_a_scheduled_mailing_is_planned_at_its_new_start(engine: AsyncEngine, api: Api) -> None:
    found = await created(api)
    job, start = await newest_job(engine), in_hours(3)
    assert (await api.patch(f"/mailings/{found['id']}/", json={"starts_at": start})).json()["status"] == "scheduled"
    assert await jobs(engine, after=job) == [("plan_mailing", found["id"], instant(start))]
    assert (await row(engine, found["id"]))["revision"] == 1, "there is no plan yet to fall behind"


async def test_a_scheduled_mailing_whose_start_is_moved_into_the_past_starts(engine: AsyncEngine, api: Api) -> None:
    found = await created(api)
    job = await newest_job(engine)
    answer = await api.patch(f"/mailings/{found['id']}/", json={"starts_at": in_hours(-1)})
    assert answer.json()["status"] == "running"
    assert await jobs(engine, after=job) == [("plan_mailing", found["id"], None)]
    assert (await row(engine, found["id"]))["launched_at"] is not None


PLAN_CHANGES: list[Json] = [
    {"filter": {"tags": ["new"]}},
    {"filter": {"operator_codes": ["999"]}},
    {"local_window": {"start": "10:00", "end": "11:00"}},
    {"ends_at": "2031-01-01T00:00:00Z"},
]


async def test_an_edit_of_a_started_mailing_leaves_its_plan_behind_and_wakes_the_planner(
    engine: AsyncEngine, api: Api
) -> None:
    for status in ("running", "paused"):
        mailing_id = await add_mailing(engine, status=status)
        await run(engine, "UPDATE mailing SET audience_upto = 7")
        for number, change in enumerate(PLAN_CHANGES, start=2):
            job = await newest_job(engine)
            answer = await api.patch(f"/mailings/{mailing_id}/", json=change)
            assert (answer.status_code, answer.json()["status"]) == (200, status)
            found = await row(engine, mailing_id)
            assert (found["revision"], found["planned_revision"], found["audience_upto"]) == (number, 1, None)
            assert ("plan_mailing", mailing_id, None) in await jobs(engine, after=job)
            await run(engine, "DELETE FROM procrastinate_jobs")


async def test_a_new_end_is_looked_at_when_it_comes(engine: AsyncEngine, api: Api) -> None:
    mailing_id, end = await add_mailing(engine), in_hours(48)
    await api.patch(f"/mailings/{mailing_id}/", json={"ends_at": end})
    assert ("settle_mailing", mailing_id, instant(end)) in await jobs(engine)


async def test_a_new_text_gets_its_own_revision_and_the_old_one_is_kept(engine: AsyncEngine, api: Api) -> None:
    mailing_id = await add_mailing(engine, text="first")
    for text in ("second", "second", "third", "first"):
        assert (await api.patch(f"/mailings/{mailing_id}/", json={"text": text})).json()["text"] == text
    kept = await run(engine, "SELECT revision, text FROM mailing_text ORDER BY revision")
    assert [tuple(each) for each in kept] == [(1, "first"), (2, "second"), (3, "third"), (4, "first")]
    found = await row(engine, mailing_id)
    assert (found["text_revision"], found["revision"]) == (4, 1), "who gets it, and when, stays as planned"


async def test_a_closed_mailing_cannot_be_changed(engine: AsyncEngine, api: Api) -> None:
    for status in CLOSED:
        mailing_id = await add_mailing(engine, status=status)
        before = await row(engine, mailing_id)
        for change in ({}, {"text": "New"}, *PLAN_CHANGES):
            assert (await api.patch(f"/mailings/{mailing_id}/", json=change)).status_code == 409
        assert (await api.put(f"/mailings/{mailing_id}/", json=body())).status_code == 409
        assert await row(engine, mailing_id) == before
    assert await jobs(engine) == []


async def test_the_start_cannot_move_after_it_has_come(engine: AsyncEngine, api: Api) -> None:
    for status in ("running", "paused"):
        mailing_id = await add_mailing(engine, status=status)
        found = await read(api, mailing_id)
        for start in (in_hours(-2), in_hours(1)):
            assert (await api.patch(f"/mailings/{mailing_id}/", json={"starts_at": start})).status_code == 409
            assert (await api.put(f"/mailings/{mailing_id}/", json=body(starts_at=start))).status_code == 409
        given = whole(found) | {"text": "New"}
        assert (await api.put(f"/mailings/{mailing_id}/", json=given)).json()["text"] == "New"


# --- pause, resume, cancel, delete ----------------------------------------------------------------------------------


async def test_each_action_leads_where_it_should_and_from_elsewhere_it_is_refused(
    engine: AsyncEngine, api: Api
) -> None:
    leads: dict[str, dict[str, str]] = {
        "pause": {"running": "paused", "paused": "paused"},
        "resume": {"running": "running", "paused": "running"},
        "cancel": dict.fromkeys(("scheduled", "running", "paused", "cancelled"), "cancelled"),
    }
    for action, reached in leads.items():
        for status in Status:
            mailing_id = await add_mailing(engine, status=status)
            answer = await api.post(f"/mailings/{mailing_id}/{action}")
            after = (await read(api, mailing_id))["status"]
            if status in reached:
                assert (answer.status_code, answer.json()["status"], after) == (200, reached[status], reached[status])
            else:
                assert (answer.status_code, after) == (409, status)


async def test_an_action_repeated_changes_nothing(engine: AsyncEngine, api: Api) -> None:
    for action, again in (("pause", "pause"), ("resume", "resume"), ("cancel", "cancel")):
        mailing_id = await add_mailing(engine, status="paused" if action == "resume" else "running")
        await api.post(f"/mailings/{mailing_id}/{action}")
        before, job = await row(engine, mailing_id), await newest_job(engine)
        assert (await api.post(f"/mailings/{mailing_id}/{again}")).status_code == 200
        assert await row(engine, mailing_id) == before
        assert await jobs(engine, after=job) == []


async def test_a_resume_wakes_the_planner_and_a_cancel_nobody(engine: AsyncEngine, api: Api) -> None:
    mailing_id = await add_mailing(engine, status="paused")
    await api.post(f"/mailings/{mailing_id}/resume")
    assert ("plan_mailing", mailing_id, None) in await jobs(engine)
    job = await newest_job(engine)
    await api.post(f"/mailings/{mailing_id}/cancel")
    assert await jobs(engine, after=job) == []


UNSENT = ["pending"] * 3 + ["sending", "sent", "sent", "failed", "expired", "unknown"]


async def with_messages(engine: AsyncEngine, *, status: str = "running") -> int:
    """UNSENT, and one more that waits although an attempt of it may have arrived."""
    mailing_id = await add_mailing(engine, status=status)
    *_, last = await add_messages(engine, mailing_id, [*UNSENT, "pending"])
    await run(engine, "UPDATE message SET ambiguous = true, waiting = 'retry' WHERE id = :id", id=last)
    return mailing_id


STOPPED = Counter(UNSENT) - Counter(pending=3) + Counter(cancelled=3, unknown=1)


async def test_a_cancel_stops_what_is_unsent_and_does_not_call_cancelled_what_may_have_arrived(
    engine: AsyncEngine, api: Api
) -> None:
    other = await with_messages(engine)
    before = await statuses(engine, other)
    for status in ("running", "paused"):
        mailing_id = await with_messages(engine, status=status)
        assert (await api.post(f"/mailings/{mailing_id}/cancel")).status_code == 200
        assert await statuses(engine, mailing_id) == STOPPED
        told = await run(
            engine,
            "SELECT DISTINCT last_error, waiting FROM message WHERE mailing_id = :id AND last_error IS NOT NULL",
            id=mailing_id,
        )
        assert [tuple(each) for each in told] == [("the mailing was cancelled", None)]
    assert await statuses(engine, other) == before


async def test_a_cancel_repeated_stops_what_has_come_back_meanwhile(engine: AsyncEngine, api: Api) -> None:
    mailing_id = await with_messages(engine)
    await api.post(f"/mailings/{mailing_id}/cancel")
    await run(engine, "UPDATE message SET status = 'pending', lease_until = NULL WHERE status = 'sending'")
    assert (await api.post(f"/mailings/{mailing_id}/cancel")).status_code == 200
    assert await statuses(engine, mailing_id) == STOPPED - Counter(sending=1) + Counter(cancelled=1)


async def test_a_pause_touches_no_message(engine: AsyncEngine, api: Api) -> None:
    mailing_id = await with_messages(engine)
    before = await statuses(engine, mailing_id)
    await api.post(f"/mailings/{mailing_id}/pause")
    assert await statuses(engine, mailing_id) == before
    await api.post(f"/mailings/{mailing_id}/resume")
    assert await statuses(engine, mailing_id) == before


async def test_a_deleted_mailing_is_gone_and_what_was_unsent_is_cancelled(engine: AsyncEngine, api: Api) -> None:
    for status in Status:
        mailing_id = await with_messages(engine, status=status)
        answer = await api.delete(f"/mailings/{mailing_id}/")
        assert (answer.status_code, answer.content) == (204, b"")
        assert await statuses(engine, mailing_id) == STOPPED
        assert (await row(engine, mailing_id))["status"] == ("finished" if status == "finished" else "cancelled")


async def test_nothing_can_be_done_with_a_deleted_mailing_or_one_that_never_was(engine: AsyncEngine, api: Api) -> None:
    mailing_id = await add_mailing(engine)
    await api.delete(f"/mailings/{mailing_id}/")
    for path in (f"/mailings/{mailing_id}", f"/mailings/{mailing_id + 1}", f"/mailings/{2**53 - 1}"):
        answers = [
            await api.get(path),
            await api.put(path, json=body()),
            await api.patch(path, json={}),
            await api.delete(path),
            *[await api.post(f"{path}/{action}") for action in ("pause", "resume", "cancel")],
            await api.get(path.replace("mailings", "statistics")),
        ]
        assert {answer.status_code for answer in answers} == {404}
    assert (await api.get("/mailings/")).json()["items"] == []


# --- at once --------------------------------------------------------------------------------------------------------


async def test_edits_at_once_are_all_applied_one_after_the_other(engine: AsyncEngine, api: Api) -> None:
    mailing_id = await add_mailing(engine, text="start")
    texts = [f"text {number}" for number in range(8)]
    answers = await asyncio.gather(*(api.patch(f"/mailings/{mailing_id}/", json={"text": text}) for text in texts))
    assert {answer.status_code for answer in answers} == {200}
    kept = await run(engine, "SELECT text FROM mailing_text ORDER BY revision")
    assert sorted(each.text for each in kept) == sorted(["start", *texts])
    assert (await read(api, mailing_id))["text"] == kept[-1].text


async def test_edits_of_different_fields_at_once_do_not_undo_each_other(engine: AsyncEngine, api: Api) -> None:
    for _ in range(3):
        mailing_id = await add_mailing(engine)
        changes = [{"text": "New"}, *PLAN_CHANGES[1:]]
        answers = await asyncio.gather(*(api.patch(f"/mailings/{mailing_id}/", json=change) for change in changes))
        assert {answer.status_code for answer in answers} == {200}
        found = await read(api, mailing_id)
        expected = {name: given for change in changes for name, given in change.items()}
        expected["filter"] = {"tags": []} | expected["filter"]
        assert found | expected == found
        assert (await row(engine, mailing_id))["revision"] == 4


async def test_an_edit_and_an_end_at_once_are_applied_or_refused_and_never_mixed(engine: AsyncEngine, api: Api) -> None:
    for refusal, ended in ((409, "cancel"), (404, "")):
        for _ in range(4):
            mailing_id = await with_messages(engine)
            path = f"/mailings/{mailing_id}"
            end = api.post(f"{path}/{ended}") if ended else api.delete(path)
            edited, stopped = await asyncio.gather(api.patch(path, json={"text": "New", **PLAN_CHANGES[0]}), end)
            assert stopped.status_code in {200, 204}
            assert edited.status_code in {200, refusal}
            found = await row(engine, mailing_id)
            assert found["status"] == "cancelled"
            assert (found["text"], found["revision"]) == (("New", 2) if edited.status_code == 200 else ("Hello", 1))
            assert await statuses(engine, mailing_id) == STOPPED


async def test_a_commit_that_fails_leaves_neither_change_nor_job(engine: AsyncEngine, api: Api) -> None:
    mailing_id = await add_mailing(engine)
    for statement in (
        """CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION 'at commit' USING ERRCODE = 'serialization_failure'; END $$""",
        """CREATE CONSTRAINT TRIGGER refuse AFTER INSERT OR UPDATE ON mailing DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION refuse()""",
    ):
        await run(engine, statement)
    before = await row(engine, mailing_id)
    answers = [
        await api.post("/mailings/", json=body()),
        await api.patch(f"/mailings/{mailing_id}/", json={"filter": {"tags": ["new"]}}),
        await api.post(f"/mailings/{mailing_id}/pause"),
        await api.delete(f"/mailings/{mailing_id}/"),
    ]
    assert {answer.status_code for answer in answers} == {503}
    assert await run(engine, "SELECT id FROM mailing") == [(mailing_id,)]
    assert await row(engine, mailing_id) == before
    assert await jobs(engine) == []
