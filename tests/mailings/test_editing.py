"""A mailing is replaced and changed over the API, also by several at once."""

import asyncio

from support.answers import Json, bad_fields
from support.api import Api
from support.database import CONFLICT, Database
from support.mailing_requests import ALL, CLOSED, STOPPED, body, created, in_hours, instant, read, whole, with_messages


def stamps(answer: Json, *, revision: int) -> Json:
    """When it was changed; a change by whoever may send is released at once."""
    at = answer["updated_at"]
    return {
        "updated_at": at,
        "revision": revision,
        "release": {"revision": revision, "at": answer["release"]["at"], "by": "MAILING_API_KEY"},
    }


async def test_a_put_gives_what_is_left_out_its_default(api: Api) -> None:
    found = await created(api, **ALL)
    given = {"text": "New", "starts_at": found["starts_at"], "ends_at": found["ends_at"]}
    answer = await api.put(f"/mailings/{found['id']}/", json=given)
    assert answer.status_code == 200
    defaults: Json = {"filter": {"tags": [], "operator_codes": []}, "local_window": None}
    assert answer.json() == found | given | defaults | stamps(answer.json(), revision=2)
    assert instant(answer.json()["updated_at"]) > instant(found["updated_at"])
    assert await read(api, found["id"]) == answer.json()


async def test_a_patch_changes_only_what_it_names(api: Api) -> None:
    expected = await created(api, **ALL)
    revision = 1
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
        revision += any(expected[name] != value for name, value in change.items())
        expected |= change | stamps(answer.json(), revision=revision)
        expected["filter"] = {"tags": [], "operator_codes": []} | expected["filter"]
        assert answer.json() == expected
        assert await read(api, expected["id"]) == expected


async def test_an_edit_that_repeats_what_is_there_changes_nothing(db: Database, api: Api) -> None:
    for start in (1, -1):
        found = await created(api, starts_at=in_hours(start), **ALL)
        before, job = await db.mailing(found["id"]), await db.newest_job()
        for answer in (
            await api.patch(f"/mailings/{found['id']}/", json={}),
            await api.patch(f"/mailings/{found['id']}/", json=whole(found)),
            await api.put(f"/mailings/{found['id']}/", json=whole(found)),
        ):
            assert (answer.status_code, answer.json()) == (200, found)
        assert await db.mailing(found["id"]) == before
        assert await db.jobs(after=job) == []


async def test_a_patch_that_leaves_no_time_between_start_and_end_is_refused(db: Database, api: Api) -> None:
    found = await created(api, starts_at=in_hours(2), ends_at=in_hours(4))
    for change in (
        {"ends_at": found["starts_at"]},
        {"ends_at": in_hours(1)},
        {"starts_at": found["ends_at"]},
        {"starts_at": in_hours(5)},
        {"starts_at": in_hours(5), "text": "New"},
    ):
        assert set(bad_fields(await api.patch(f"/mailings/{found['id']}/", json=change))) == {"ends_at"}
    assert await read(api, found["id"]) == found
    assert (await db.mailing(found["id"]))["text_revision"] == 1


async def test_a_scheduled_mailing_is_planned_at_its_new_start(db: Database, api: Api) -> None:
    found = await created(api)
    job, start = await db.newest_job(), in_hours(3)
    assert (await api.patch(f"/mailings/{found['id']}/", json={"starts_at": start})).json()["status"] == "scheduled"
    assert await db.jobs(after=job) == [("plan_mailing", found["id"], instant(start))]
    assert (await db.mailing(found["id"]))["plan_revision"] == 1, (
        "nothing is planned yet, so the edit makes no new plan"
    )


async def test_a_scheduled_mailing_whose_start_is_moved_into_the_past_starts(db: Database, api: Api) -> None:
    found = await created(api)
    job = await db.newest_job()
    answer = await api.patch(f"/mailings/{found['id']}/", json={"starts_at": in_hours(-1)})
    assert answer.json()["status"] == "running"
    assert await db.jobs(after=job) == [("plan_mailing", found["id"], None)]
    assert (await db.mailing(found["id"]))["started_at"] is not None


PLAN = "SELECT plan_revision, planned_revision, audience_max_client_id FROM mailing WHERE id = :id"
PLAN_CHANGES: list[Json] = [
    {"filter": {"tags": ["new"]}},
    {"filter": {"operator_codes": ["999"]}},
    {"local_window": {"start": "10:00", "end": "11:00"}},
    {"ends_at": "2031-01-01T00:00:00Z"},
    {"text": "New"},
]


async def test_an_edit_of_a_started_mailing_leaves_its_plan_behind_and_wakes_the_planner(
    db: Database, api: Api
) -> None:
    for status in ("running", "paused"):
        mailing_id = await db.add_mailing(status=status)
        await db.run("UPDATE mailing SET audience_max_client_id = 7")
        for number, change in enumerate(PLAN_CHANGES, start=2):
            job = await db.newest_job()
            answer = await api.patch(f"/mailings/{mailing_id}/", json=change)
            assert (answer.status_code, answer.json()["status"]) == (200, status)
            plan = await db.run(PLAN, id=mailing_id)
            assert plan == [(number, 1, None)]
            assert ("plan_mailing", mailing_id, None) in await db.jobs(after=job)
            await db.run("DELETE FROM procrastinate_jobs")


async def test_a_new_end_is_looked_at_when_it_comes(db: Database, api: Api) -> None:
    mailing_id, end = await db.add_mailing(), in_hours(48)
    await api.patch(f"/mailings/{mailing_id}/", json={"ends_at": end})
    assert ("settle_mailing", mailing_id, instant(end)) in await db.jobs()


async def test_a_new_text_gets_its_own_revision_and_the_old_one_is_kept(db: Database, api: Api) -> None:
    mailing_id = await db.add_mailing(text="first")
    for text in ("second", "second", "third", "first"):
        assert (await api.patch(f"/mailings/{mailing_id}/", json={"text": text})).json()["text"] == text
    kept = await db.run("SELECT revision, text FROM mailing_text ORDER BY revision")
    assert kept == [(1, "first"), (2, "second"), (3, "third"), (4, "first")]
    found = await db.mailing(mailing_id)
    assert (found["text_revision"], found["plan_revision"]) == (4, 4), "each edit plans the unsent again"


async def test_a_closed_mailing_cannot_be_changed(db: Database, api: Api) -> None:
    for status in CLOSED:
        mailing_id = await db.add_mailing(status=status)
        before = await db.mailing(mailing_id)
        for change in ({}, *PLAN_CHANGES):
            assert (await api.patch(f"/mailings/{mailing_id}/", json=change)).status_code == 409
        assert (await api.put(f"/mailings/{mailing_id}/", json=body())).status_code == 409
        assert await db.mailing(mailing_id) == before
    assert await db.jobs() == []


async def test_the_start_cannot_move_after_it_has_come(db: Database, api: Api) -> None:
    for status in ("running", "paused"):
        mailing_id = await db.add_mailing(status=status)
        found = await read(api, mailing_id)
        for start in (in_hours(-2), in_hours(1)):
            assert (await api.patch(f"/mailings/{mailing_id}/", json={"starts_at": start})).status_code == 409
            assert (await api.put(f"/mailings/{mailing_id}/", json=body(starts_at=start))).status_code == 409
        given = whole(found) | {"text": "New"}
        assert (await api.put(f"/mailings/{mailing_id}/", json=given)).json()["text"] == "New"


async def test_edits_at_once_are_all_applied_one_after_the_other(db: Database, api: Api) -> None:
    mailing_id = await db.add_mailing(text="start")
    texts = [f"text {number}" for number in range(8)]
    answers = await asyncio.gather(*(api.patch(f"/mailings/{mailing_id}/", json={"text": text}) for text in texts))
    assert {answer.status_code for answer in answers} == {200}
    kept = await db.run("SELECT text FROM mailing_text ORDER BY revision")
    assert sorted(each.text for each in kept) == sorted(["start", *texts])
    assert (await read(api, mailing_id))["text"] == kept[-1].text


async def test_edits_of_different_fields_at_once_do_not_undo_each_other(db: Database, api: Api) -> None:
    for _ in range(3):
        mailing_id = await db.add_mailing()
        changes = PLAN_CHANGES[1:]
        answers = await asyncio.gather(*(api.patch(f"/mailings/{mailing_id}/", json=change) for change in changes))
        assert {answer.status_code for answer in answers} == {200}
        found = await read(api, mailing_id)
        expected = {name: given for change in changes for name, given in change.items()}
        expected["filter"] = {"tags": []} | expected["filter"]
        assert found | expected == found
        assert (await db.mailing(mailing_id))["plan_revision"] == 1 + len(changes)


async def test_an_edit_and_an_end_at_once_are_applied_or_refused_and_never_mixed(db: Database, api: Api) -> None:
    for refusal, ended in ((409, "cancel"), (404, "")):
        for _ in range(4):
            mailing_id = await with_messages(db)
            path = f"/mailings/{mailing_id}"
            end = api.post(f"{path}/{ended}") if ended else api.delete(path)
            edited, stopped = await asyncio.gather(api.patch(path, json={"text": "New", **PLAN_CHANGES[0]}), end)
            assert stopped.status_code in {200, 204}
            assert edited.status_code in {200, refusal}
            found = await db.mailing(mailing_id)
            assert found["status"] == "cancelled"
            assert (found["text"], found["plan_revision"]) == (
                ("New", 2) if edited.status_code == 200 else ("Hello", 1)
            )
            assert await db.statuses(mailing_id) == STOPPED


async def test_a_commit_that_fails_leaves_neither_change_nor_job(db: Database, api: Api) -> None:
    mailing_id = await db.add_mailing()
    await db.after_write("mailing", CONFLICT, at_commit=True)
    before = await db.mailing(mailing_id)
    answers = [
        await api.post("/mailings/", json=body()),
        await api.patch(f"/mailings/{mailing_id}/", json={"filter": {"tags": ["new"]}}),
        await api.post(f"/mailings/{mailing_id}/pause"),
        await api.delete(f"/mailings/{mailing_id}/"),
    ]
    assert {answer.status_code for answer in answers} == {503}
    assert await db.run("SELECT id FROM mailing") == [(mailing_id,)]
    assert await db.mailing(mailing_id) == before
    assert await db.jobs() == []
