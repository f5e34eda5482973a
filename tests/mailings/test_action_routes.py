"""A mailing is paused, resumed, cancelled and deleted over the API."""

from collections import Counter

from mailing.mailings.states import MailingStatus
from support.api import Api
from support.database import Database
from support.mailing_requests import STOPPED, body, read, with_messages


async def test_each_action_leads_where_it_should_and_from_elsewhere_it_is_refused(db: Database, api: Api) -> None:
    leads: dict[str, dict[str, str]] = {
        "pause": {"running": "paused", "paused": "paused"},
        "resume": {"running": "running", "paused": "running"},
        "cancel": dict.fromkeys(("draft", "scheduled", "running", "paused", "cancelled"), "cancelled"),
    }
    for action, reached in leads.items():
        for status in MailingStatus:
            mailing_id = await db.add_mailing(status=status)
            answer = await api.post(f"/mailings/{mailing_id}/{action}")
            after = (await read(api, mailing_id))["status"]
            if status in reached:
                assert (answer.status_code, answer.json()["status"], after) == (200, reached[status], reached[status])
            else:
                assert (answer.status_code, after) == (409, status)


async def test_an_action_repeated_changes_nothing(db: Database, api: Api) -> None:
    for action in ("pause", "resume", "cancel"):
        mailing_id = await db.add_mailing(status="paused" if action == "resume" else "running")
        await api.post(f"/mailings/{mailing_id}/{action}")
        before, job = await db.mailing(mailing_id), await db.newest_job()
        assert (await api.post(f"/mailings/{mailing_id}/{action}")).status_code == 200
        assert await db.mailing(mailing_id) == before
        assert await db.jobs(after=job) == []


async def test_a_resume_wakes_the_planner_and_a_cancel_nobody(db: Database, api: Api) -> None:
    mailing_id = await db.add_mailing(status="paused")
    await api.post(f"/mailings/{mailing_id}/resume")
    assert ("plan_mailing", mailing_id, None) in await db.jobs()
    job = await db.newest_job()
    await api.post(f"/mailings/{mailing_id}/cancel")
    assert await db.jobs(after=job) == []


async def test_a_cancel_stops_what_is_unsent_and_does_not_call_cancelled_what_may_have_arrived(
    db: Database, api: Api
) -> None:
    other = await with_messages(db)
    before = await db.statuses(other)
    for status in ("running", "paused"):
        mailing_id = await with_messages(db, status=status)
        assert (await api.post(f"/mailings/{mailing_id}/cancel")).status_code == 200
        assert await db.statuses(mailing_id) == STOPPED
        reasons = "SELECT DISTINCT reason_code, wait_reason FROM message WHERE mailing_id = :id AND reason_code <> ''"
        assert await db.run(reasons, id=mailing_id) == [("mailing_cancelled", None)]
    assert await db.statuses(other) == before


async def test_a_cancel_repeated_stops_what_has_come_back_meanwhile(db: Database, api: Api) -> None:
    mailing_id = await with_messages(db)
    await api.post(f"/mailings/{mailing_id}/cancel")
    await db.run("UPDATE message SET status = 'pending', lease_until = NULL WHERE status = 'sending'")
    assert (await api.post(f"/mailings/{mailing_id}/cancel")).status_code == 200
    assert await db.statuses(mailing_id) == STOPPED - Counter(sending=1) + Counter(cancelled=1)


async def test_a_pause_touches_no_message(db: Database, api: Api) -> None:
    mailing_id = await with_messages(db)
    before = await db.statuses(mailing_id)
    await api.post(f"/mailings/{mailing_id}/pause")
    assert await db.statuses(mailing_id) == before
    await api.post(f"/mailings/{mailing_id}/resume")
    assert await db.statuses(mailing_id) == before


async def test_a_deleted_mailing_is_gone_and_what_was_unsent_is_cancelled(db: Database, api: Api) -> None:
    for status in MailingStatus:
        mailing_id = await with_messages(db, status=status)
        answer = await api.delete(f"/mailings/{mailing_id}/")
        assert (answer.status_code, answer.content) == (204, b"")
        assert await db.statuses(mailing_id) == STOPPED
        assert (await db.mailing(mailing_id))["status"] == ("finished" if status == "finished" else "cancelled")


async def test_nothing_can_be_done_with_a_deleted_mailing_or_one_that_never_was(db: Database, api: Api) -> None:
    mailing_id = await db.add_mailing()
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
