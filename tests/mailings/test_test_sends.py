"""A test goes to one phone, and is seen nowhere but at its own address."""

from datetime import UTC, timedelta
from zoneinfo import ZoneInfo

from mailing.database.clock import database_now
from mailing.reports.repository import figures_of, snapshot
from mailing.reports.schedule import day_of
from support.answers import json_of
from support.api import Api
from support.database import Database

PHONE = "79161234567"


async def test_a_test_is_a_message_with_the_present_text_under_the_tested_mailing(db: Database, api: Api) -> None:
    client_id = await db.add_client(phone=PHONE)
    for status in ("scheduled", "running", "paused", "finished"):
        mailing_id = await db.add_mailing(status=status, text=f"Sale, {status}")
        answer = await api.post(f"/mailings/{mailing_id}/test", json={"phone": PHONE})
        message = json_of(answer, 201)
        assert answer.headers["location"] == f"/mailing/api/messages/{message['id']}/"
        wanted = {"mailing_id": mailing_id, "client_id": client_id, "phone": PHONE, "text": f"Sale, {status}"}
        assert message | wanted | {"status": "pending", "test": True, "history": []} == message
        assert json_of(await api.get(f"/messages/{message['id']}/")) == message
        ran_by = await db.value("SELECT mailing_id FROM message WHERE id = :id", id=message["id"])
        assert await db.jobs_of(ran_by) == {"send_mailing"}
        assert await db.events("%tested") == [("mailing.tested", "MAILING_API_KEY", mailing_id, {})]
        await db.run("DELETE FROM event")


async def test_a_second_test_is_another_message(db: Database, api: Api) -> None:
    await db.add_client(phone=PHONE)
    mailing_id = await db.add_mailing()
    answers = [await api.post(f"/mailings/{mailing_id}/test", json={"phone": PHONE}) for _ in range(2)]
    assert len({json_of(answer, 201)["id"] for answer in answers}) == 2


async def test_whoever_is_no_client_or_has_opted_out_gets_no_test(db: Database, api: Api) -> None:
    mailing_id = await db.add_mailing()
    path = f"/mailings/{mailing_id}/test"
    refused = json_of(await api.post(path, json={"phone": PHONE}), 400)
    assert refused["errors"] == [
        {"field": "phone", "message": "belongs to no client; create one with POST /mailing/api/clients/ first"}
    ]
    for body in ({}, {"phone": "+380501234567"}, {"phone": 7916}, {"phone": PHONE, "text": "x"}):
        json_of(await api.post(path, json=body), 400)
    await db.add_client(phone=PHONE)
    await db.run("UPDATE client SET opted_out = true")
    refused = json_of(await api.post(path, json={"phone": PHONE}), 409)
    assert (
        refused["detail"]
        == "The client with this phone has opted out and gets no messages; use another client's phone."
    )
    assert await db.value("SELECT count(*) FROM message") == 0


async def test_a_cancelled_mailing_is_not_tested_nor_a_deleted_one(db: Database, api: Api) -> None:
    await db.add_client(phone=PHONE)
    mailing_id = await db.add_mailing()
    message = json_of(await api.post(f"/mailings/{mailing_id}/test", json={"phone": PHONE}), 201)
    json_of(await api.post(f"/mailings/{mailing_id}/cancel"))
    json_of(await api.post(f"/mailings/{mailing_id}/test", json={"phone": PHONE}), 409)
    assert (await api.delete(f"/mailings/{mailing_id}/")).status_code == 204
    json_of(await api.post(f"/mailings/{mailing_id}/test", json={"phone": PHONE}), 404)
    json_of(await api.get(f"/messages/{message['id']}/"), 404)


async def test_a_test_can_be_neither_read_nor_changed_as_a_mailing(db: Database, api: Api) -> None:
    await db.add_client(phone=PHONE)
    mailing_id = await db.add_mailing()
    json_of(await api.post(f"/mailings/{mailing_id}/test", json={"phone": PHONE}), 201)
    test = await db.value("SELECT id FROM mailing WHERE test_of_mailing_id IS NOT NULL")
    path = f"/mailings/{test}"
    answers = [
        await api.get(path),
        await api.patch(path, json={}),
        await api.delete(path),
        await api.get(f"/statistics/{test}"),
        await api.post(f"{path}/test", json={"phone": PHONE}),
        await api.post(f"{path}/resolve-unknown", json={"as": "sent"}),
        *[await api.post(f"{path}/{action}") for action in ("pause", "resume", "cancel", "resend-failed")],
    ]
    assert {answer.status_code for answer in answers} == {404}


async def test_a_test_appears_in_no_list_count_or_report(db: Database, api: Api) -> None:
    await db.add_client(phone=PHONE)
    mailing_id = await db.add_mailing()
    before = [json_of(await api.get(path)) for path in ("/mailings/", "/statistics/", f"/statistics/{mailing_id}/")]
    message = json_of(await api.post(f"/mailings/{mailing_id}/test", json={"phone": PHONE}), 201)
    await db.run("UPDATE message SET status = 'expired', finished_at = now() WHERE id = :id", id=message["id"])
    after = [json_of(await api.get(path)) for path in ("/mailings/", "/statistics/", f"/statistics/{mailing_id}/")]
    assert after == before
    async with snapshot(db.sessions) as session:
        now = await database_now(session)
        day = day_of(now.astimezone(UTC).date(), ZoneInfo("UTC"))
        figures = await figures_of(session, day, taken_at=now + timedelta(seconds=1))
    assert [each.id for each in figures.mailings] == [mailing_id]
    assert (figures.totals.planned, figures.ended.messages, figures.reasons) == (0, 0, [])


async def test_what_became_of_a_test_can_be_said_too(db: Database, api: Api) -> None:
    await db.add_client(phone=PHONE)
    mailing_id = await db.add_mailing()
    message = json_of(await api.post(f"/mailings/{mailing_id}/test", json={"phone": PHONE}), 201)
    await db.run(
        "UPDATE message SET status = 'unknown', maybe_accepted = true, counted_attempts = 1, finished_at = now()"
    )
    found = json_of(await api.post(f"/messages/{message['id']}/resolve", json={"as": "sent"}))
    assert (found["status"], found["test"], found["mailing_id"]) == ("sent", True, mailing_id)
