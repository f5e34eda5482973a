"""Releasing a draft over the API: who may, which revision, and when."""

import asyncio

import pytest
from sqlalchemy.exc import IntegrityError

from mailing.access import api_keys
from mailing.database.engine import transaction
from mailing.mailings import editing
from mailing.mailings.repository import claim_plan, find_pending_work
from mailing.mailings.schemas import MailingIn
from mailing.web.validation import check
from support.answers import Json, bad_fields, json_of
from support.api import Api
from support.database import Database
from support.mailing_requests import ALL, CLOSED, body, created, in_hours, instant, read, whole

EDITOR = "user 1 (anna)"


async def drafted(db: Database, **changes: object) -> int:
    """As an editor makes one at the admin page; its id."""
    async with transaction(db.sessions) as session:
        data = check(body(**changes), MailingIn)
        return (await editing.create_draft(session, data, by=EDITOR)).id


async def changed_by_editor(db: Database, mailing_id: int, **changes: object) -> None:
    await db.commit(editing.edit_unreleased, mailing_id, changes, by=EDITOR)


async def test_a_key_releases_by_creating(api: Api) -> None:
    for start, status in ((1, "scheduled"), (-1, "running")):
        found = await created(api, starts_at=in_hours(start))
        release = {"revision": 1, "at": found["created_at"], "by": "MAILING_API_KEY"}
        assert (found["status"], found["revision"], found["release"]) == (status, 1, release)


async def test_a_draft_is_shown_as_one_and_wakes_nobody(db: Database, api: Api) -> None:
    mailing_id = await drafted(db, starts_at=in_hours(-1), **ALL)
    found = await read(api, mailing_id)
    assert found | ALL == found
    assert (found["status"], found["revision"], found["release"]) == ("draft", 1, None)
    assert await db.jobs() == []
    listed = json_of(await api.get("/mailings/?status=draft"))
    assert listed["items"] == [found]
    line = json_of(await api.get("/statistics/"))["items"][0]
    assert (line["status"], line["launched"], line["planned"]) == ("draft", False, 0)
    assert [(kind, by, detail["draft"]) for kind, by, _, detail in await db.events()] == [
        ("mailing.created", EDITOR, True)
    ]


async def test_a_release_schedules_a_draft_or_starts_it_where_its_start_has_passed(db: Database, api: Api) -> None:
    for start, status in ((1, "scheduled"), (-1, "running")):
        mailing_id = await drafted(db, starts_at=in_hours(start))
        before, job = await read(api, mailing_id), await db.newest_job()
        released = json_of(await api.post(f"/mailings/{mailing_id}/release"))
        release = {"revision": 1, "at": released["updated_at"], "by": "MAILING_API_KEY"}
        assert released == before | {"status": status, "release": release, "updated_at": released["updated_at"]}
        assert await read(api, mailing_id) == released
        assert await db.jobs(after=job) == [
            ("plan_mailing", mailing_id, instant(before["starts_at"]) if start > 0 else None),
            ("settle_mailing", mailing_id, instant(before["ends_at"])),
        ]
        assert json_of(await api.get(f"/statistics/{mailing_id}/"))["launched"] is (start < 0)
        assert (await db.events("mailing.released"))[-1] == (
            *("mailing.released", "MAILING_API_KEY", mailing_id),
            {"revision": 1, "text_revision": 1},
        )


async def test_a_release_repeated_changes_nothing(db: Database, api: Api) -> None:
    mailing_id = await drafted(db)
    both = await asyncio.gather(*[api.post(f"/mailings/{mailing_id}/release") for _ in range(2)])
    assert json_of(both[0]) == json_of(both[1])
    before, job = await db.mailing(mailing_id), await db.newest_job()
    for query in ("", "?revision=1"):
        assert json_of(await api.post(f"/mailings/{mailing_id}/release{query}"))["status"] == "scheduled"
    assert (await db.mailing(mailing_id), await db.jobs(after=job)) == (before, [])
    assert len(await db.events("mailing.released")) == 1


async def test_what_runs_or_is_paused_is_released_already_and_what_is_closed_can_not_be(db: Database, api: Api) -> None:
    for status in ("running", "paused", *CLOSED):
        mailing_id = await db.add_mailing(status=status)
        answer = json_of(await api.post(f"/mailings/{mailing_id}/release"), 409 if status in CLOSED else 200)
        assert "create a new one" in answer["detail"] if status in CLOSED else answer["status"] == status
        assert (await read(api, mailing_id))["status"] == status


async def test_a_draft_whose_end_has_passed_needs_a_later_one_first(db: Database, api: Api) -> None:
    mailing_id = await drafted(db)
    await db.run("UPDATE mailing SET starts_at = now() - interval '2 h', ends_at = now() - interval '1 h'")
    assert "Set a later end" in json_of(await api.post(f"/mailings/{mailing_id}/release"), 409)["detail"]
    await changed_by_editor(db, mailing_id, text="New")  # of a text alone
    changed = json_of(await api.patch(f"/mailings/{mailing_id}/", json={"ends_at": in_hours(1)}))
    assert changed["status"] == "draft"
    assert json_of(await api.post(f"/mailings/{mailing_id}/release"))["status"] == "running"


async def test_only_what_was_read_is_released(db: Database, api: Api) -> None:
    mailing_id = await drafted(db, starts_at=in_hours(-1))
    seen = (await read(api, mailing_id))["revision"]
    await changed_by_editor(db, mailing_id, text="Other words")
    refused = json_of(await api.post(f"/mailings/{mailing_id}/release?revision={seen}"), 409)
    assert "changed after you read it" in refused["detail"]
    assert (await db.mailing(mailing_id))["status"] == "draft"
    assert json_of(await api.post(f"/mailings/{mailing_id}/release?revision={seen + 1}"))["text"] == "Other words"
    for bad in ("0", "-1", "x", "", "99999999999"):
        assert set(bad_fields(await api.post(f"/mailings/{mailing_id}/release?revision={bad}"))) == {"revision"}


@pytest.mark.parametrize(
    "change",
    [
        {"text": "Other words"},
        {"starts_at": in_hours(2)},
        {"ends_at": in_hours(30)},
        {"filter": {"tags": ["vip"]}},
        {"filter": {"operator_codes": ["916"]}},
        {"local_window": {"start": "09:00", "end": "21:00"}},
    ],
    ids=lambda change: "-".join([*change, *next(iter(change.values()))] if "filter" in change else change),
)
async def test_an_editor_s_change_of_anything_that_decides_what_is_sent_withdraws_the_release(
    db: Database, api: Api, change: Json
) -> None:
    found = await created(api)
    given = check(whole(found) | change, MailingIn)
    async with transaction(db.sessions) as session:
        data = {name: getattr(given, name) for name in change}
        await editing.edit_unreleased(session, found["id"], data, by=EDITOR)
    draft = await read(api, found["id"])
    assert (draft["status"], draft["revision"], draft["release"]) == ("draft", 2, found["release"])
    assert [kind for kind, *_ in await db.events()] == [
        *("mailing.created", "mailing.edited", "mailing.release_withdrawn")
    ]
    async with transaction(db.sessions) as session:
        await db.run("UPDATE mailing SET starts_at = now() - interval '1 h'")
        assert not await claim_plan(session, found["id"], rules="any")
        assert await find_pending_work(session, after=0, count=100) == []


async def test_an_editor_s_change_that_changes_nothing_withdraws_nothing(db: Database, api: Api) -> None:
    found = await created(api)
    before = await db.mailing(found["id"])
    await changed_by_editor(db, found["id"], text=found["text"])
    assert await db.mailing(found["id"]) == before
    assert len(await db.events()) == 1


async def test_a_key_s_change_keeps_a_release_and_gives_none(api: Api, db: Database) -> None:
    released, draft = await created(api), await drafted(db, starts_at=in_hours(-1))
    for found in (released, await read(api, draft)):
        patched = json_of(await api.patch(f"/mailings/{found['id']}/", json={"text": "New"}))
        put = json_of(await api.put(f"/mailings/{found['id']}/", json=whole(found)))
        assert [each["status"] for each in (patched, put)] == [found["status"]] * 2
        kept = [each["release"] and each["release"]["revision"] for each in (patched, put)]
        assert kept == ([2, 3] if found["release"] else [None, None])


async def test_a_key_s_change_of_a_running_mailing_is_what_was_released(db: Database, api: Api) -> None:
    found = await created(api, starts_at=in_hours(-1))
    json_of(await api.patch(f"/mailings/{found['id']}/", json={"text": "New", "filter": {"tags": ["vip"]}}))
    rows = await db.run("SELECT revision, text_revision, tags, released_by FROM mailing_release ORDER BY revision")
    assert rows == [(1, 1, [], "MAILING_API_KEY"), (2, 2, ["vip"], "MAILING_API_KEY")]


async def test_a_key_that_may_only_read_releases_nothing(api: Api, db: Database) -> None:
    mailing_id = await drafted(db)
    key = await db.commit(api_keys.create, "screen", scope=api_keys.READ, by="tests")
    answer = await api.post(f"/mailings/{mailing_id}/release", headers={"Authorization": f"Bearer {key}"})
    assert answer.status_code == 403
    assert (await read(api, mailing_id))["status"] == "draft"


async def test_a_draft_can_not_be_paused_resumed_or_sent_again_but_cancelled_deleted_and_tested(
    db: Database, api: Api
) -> None:
    phone = "79161234567"
    await db.add_client(phone=phone)
    mailing_id = await drafted(db)
    for action in ("pause", "resume", "resend-failed"):
        json_of(await api.post(f"/mailings/{mailing_id}/{action}"), 409)
    json_of(await api.post(f"/mailings/{mailing_id}/resolve-unknown", json={"as": "pending"}), 409)
    json_of(await api.post(f"/mailings/{mailing_id}/test", json={"phone": phone}), 201)
    assert await db.value("SELECT released_by FROM mailing WHERE test_of_mailing_id IS NOT NULL") == "MAILING_API_KEY"
    cancelled = json_of(await api.post(f"/mailings/{mailing_id}/cancel"))
    assert (cancelled["status"], cancelled["stopped"]) == ("cancelled", 0)
    json_of(await api.post(f"/mailings/{mailing_id}/release"), 409)
    assert (await api.delete(f"/mailings/{await drafted(db)}/")).status_code == 204


@pytest.mark.parametrize(
    ("status", "change"),
    [
        ("draft", "status = 'scheduled'"),
        ("draft", "status = 'running', started_at = now()"),
        ("draft", "status = 'paused', started_at = now()"),
        ("draft", "started_at = now()"),
        *[(status, "content_revision = content_revision + 1") for status in ("scheduled", "running", "paused")],
        ("running", "released_revision = NULL, released_at = NULL, released_by = NULL"),
        ("scheduled", "released_by = NULL"),
    ],
)
async def test_the_schema_knows_no_mailing_that_is_sent_without_a_release(
    db: Database, status: str, change: str
) -> None:
    await db.add_mailing(status=status)
    with pytest.raises(IntegrityError, match="check constraint"):
        await db.run(f"UPDATE mailing SET {change}")
