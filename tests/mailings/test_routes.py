"""A mailing is created and read over the API. The database is looked into only for what the API does not show."""

from mailing.mailings.states import MailingStatus
from support.answers import Json, bad_fields
from support.api import Api
from support.database import Database
from support.mailing_requests import ALL, BAD, body, created, damaged, in_hours, instant, items_of_pages, read, whole


async def test_a_mailing_with_a_start_to_come_is_scheduled(db: Database, api: Api) -> None:
    given = body()
    answer = await api.post("/mailings/", json=given)
    assert answer.status_code == 201
    found = answer.json()
    assert answer.headers["location"] == f"/mailing/api/mailings/{found['id']}/"
    assert list(found) == [
        *("id", "text", "starts_at", "ends_at", "filter", "local_window", "status", "created_at", "updated_at"),
        *("revision", "release"),
    ]
    assert found | given == found
    assert (found["status"], found["local_window"]) == ("scheduled", None)
    assert found["filter"] == {"tags": [], "operator_codes": []}
    assert found["created_at"] == found["updated_at"]
    assert await read(api, found["id"]) == found
    assert await db.jobs() == [
        ("plan_mailing", found["id"], instant(given["starts_at"])),
        ("settle_mailing", found["id"], instant(given["ends_at"])),
    ]


async def test_a_mailing_whose_start_has_passed_is_started_at_once(db: Database, api: Api) -> None:
    found = await created(api, starts_at=in_hours(-1))
    assert found["status"] == "running"
    assert await db.jobs() == [
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


BAD_CHANGES: list[tuple[Json, set[str]]] = [
    *(
        ({(name := path.split(".")[0]): damaged({path: value})[name]}, {path})
        for path, values in BAD.items()
        for value in values
    ),
    ({"starts_at": in_hours(2), "ends_at": in_hours(1)}, {"ends_at"}),
    ({"starts_at": "2031-01-01T00:00:00Z", "ends_at": "2031-01-01T03:00:00+03:00"}, {"ends_at"}),
    ({"starts_at": in_hours(-2), "ends_at": in_hours(-1)}, {"ends_at"}),
    ({"starts_at": in_hours(-2), "ends_at": in_hours(-0.0001)}, {"ends_at"}),
    ({"local_window": {}}, {"local_window.start", "local_window.end"}),
    ({"local_window": {"start": "09:00"}}, {"local_window.end"}),
    ({"local_window": {"start": "09:00", "end": "09:00"}}, {"local_window.end"}),
]


async def test_every_bad_field_is_refused_and_named_and_nothing_is_stored(db: Database, api: Api) -> None:
    assert bad_fields(await api.post("/mailings/", json={})) == ["text", "starts_at", "ends_at"]
    for changes, named in BAD_CHANGES:
        assert set(bad_fields(await api.post("/mailings/", json=body(**changes)))) == named, changes
    assert await db.run("SELECT id FROM mailing UNION ALL SELECT id FROM procrastinate_jobs") == []


async def test_an_edit_is_refused_for_the_same_and_changes_nothing(db: Database, api: Api) -> None:
    found = await created(api, **ALL)
    job = await db.newest_job()
    address = f"/mailings/{found['id']}/"
    assert bad_fields(await api.put(address, json={})) == ["text", "starts_at", "ends_at"]
    for changes, named in BAD_CHANGES:
        for answer in (await api.put(address, json=body(**changes)), await api.patch(address, json=changes)):
            assert set(bad_fields(answer)) == named, changes
    assert await read(api, found["id"]) == found
    assert await db.jobs(after=job) == []


async def test_no_refusal_repeats_what_was_given(api: Api) -> None:
    secret = "s3cret 79161234567"
    given = body(
        text=secret * 100, starts_at=secret, ends_at=secret, filter={"tags": secret, "operator_codes": [secret]}
    )
    answer = await api.post("/mailings/", json=given | {"local_window": {"start": secret, "end": secret}})
    assert len(set(bad_fields(answer))) == 7
    assert "s3cret" not in answer.text


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


async def listed(api: Api, **parameters: str | int) -> list[int]:
    return [item["id"] for item in await items_of_pages(api, "/mailings/", **parameters)]


async def test_the_pages_of_a_list_join_without_gap_or_repeat_while_rows_are_added(db: Database, api: Api) -> None:
    ids = [await db.add_mailing() for _ in range(7)]
    seen: list[int] = []
    sizes: list[int] = []
    cursor = None
    while True:
        page = (await api.get("/mailings/", params={"limit": 3} | ({"cursor": cursor} if cursor else {}))).json()
        seen += [item["id"] for item in page["items"]]
        sizes.append(len(page["items"]))
        if len(ids) < 11:
            ids += [await db.add_mailing(), await db.add_mailing()]
        if not (cursor := page["next_cursor"]):
            break
    assert seen == ids
    assert sizes == [3, 3, 3, 2]


async def test_a_list_ends_where_its_last_page_is_full_or_empty(db: Database, api: Api) -> None:
    assert (await api.get("/mailings/")).json() == {"items": [], "next_cursor": None}
    ids = [await db.add_mailing() for _ in range(4)]
    for limit in (1, 2, 4, 500):
        assert await listed(api, limit=limit) == ids


async def test_a_list_can_be_had_of_one_status_and_never_shows_what_was_deleted(db: Database, api: Api) -> None:
    ids = [(status, await db.add_mailing(status=status)) for _ in range(3) for status in MailingStatus]
    gone = ids[len(MailingStatus) : 2 * len(MailingStatus)]
    for _, mailing_id in gone:
        assert (await api.delete(f"/mailings/{mailing_id}/")).status_code == 204
    for status in MailingStatus:
        expected = [mailing_id for each, mailing_id in ids if each == status and (each, mailing_id) not in gone]
        assert await listed(api, limit=1, status=status) == expected


async def test_without_a_limit_a_page_holds_fifty(db: Database, api: Api) -> None:
    await db.run(
        """INSERT INTO mailing (text, starts_at, ends_at)
        SELECT 'x', now() + interval '1 h', now() + interval '2 h' FROM generate_series(1, 501)"""
    )
    assert len(await listed(api, limit=500)) == 501
    assert len((await api.get("/mailings/")).json()["items"]) == 50
