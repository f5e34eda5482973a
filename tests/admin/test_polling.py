"""The pages that follow what happens, as a browser gets them."""

import re

import pytest

from mailing.messages.states import MessageStatus
from support.admin import Browser
from support.answers import words
from support.database import Database


async def test_an_empty_start_page_says_how_everything_is(viewer: Browser) -> None:
    page = words(await viewer.get("/admin/"))
    assert "Sending is possible." in page
    assert "No worker has reported in the last 30 seconds, so nothing is sent. Start mailing worker." in page
    assert "It has no recipients: set MAILING_REPORT_TO." in page
    assert "No mailing is running, paused or scheduled." in page


async def test_the_start_page_names_what_holds_sending_back(db: Database, viewer: Browser) -> None:
    await db.run("UPDATE gateway SET stopped_at = now(), stopped_by = 'user 1 (anna)', rate = 50")
    await db.run("INSERT INTO procrastinate_workers DEFAULT VALUES")
    await db.add_mailing_of(["sent", "pending", "pending"], text="Autumn sale")
    page = words(await viewer.get("/admin/"))
    assert "All sending was stopped by user 1 (anna)" in page
    assert "At most 50 per second." in page
    assert "Running: 1." in page
    assert "Autumn sale running" in page


async def test_a_mailings_page_tells_how_far_it_is(db: Database, viewer: Browser) -> None:
    mailing_id, _ = await db.add_mailing_of([*["sent"] * 6, *["pending"] * 3, "unknown"], text="Autumn <b>sale</b>")
    page = await viewer.get(f"/admin/mailings/{mailing_id}")
    assert "Autumn &lt;b&gt;sale&lt;/b&gt;" in page.text
    text = words(page)
    assert "sent 6 60 % pending 3 30 % unknown 1 10 %" in text
    assert "It is unknown whether 1 message arrived." in text
    assert "3 messages : in the queue." in text


async def test_a_mailing_that_waits_for_local_hours_says_where_and_when(db: Database, viewer: Browser) -> None:
    mailing_id, client_id = await db.add_mailing(), await db.add_client()
    await db.run("UPDATE client SET timezone = 'Asia/Omsk'")
    await db.add_messages(mailing_id, ["pending"], first_client=client_id)
    await db.run("UPDATE message SET wait_reason = 'window', due_at = '2040-01-01T03:00Z', closes_at = '2041-01-01Z'")
    page = words(await viewer.get(f"/admin/mailings/{mailing_id}"))
    assert "1 message : local hours begin at 09:00 in Asia/Omsk (1 Jan 2040, 03:00 UTC)." in page


@pytest.mark.parametrize(
    ("status", "sentence"), [("paused", "1 message : the mailing is paused."), ("scheduled", "Its start, ")]
)
async def test_a_mailing_at_rest_says_why(db: Database, viewer: Browser, status: str, sentence: str) -> None:
    mailing_id, _ = await db.add_mailing_of(["pending"], status=status)
    assert sentence in words(await viewer.get(f"/admin/mailings/{mailing_id}"))


async def test_a_part_tells_a_page_that_its_user_has_another_role_now(db: Database, sender: Browser) -> None:
    """The page then drops the buttons of before."""
    mailing_id, _ = await db.add_mailing_of(["pending"])
    for page in (f"mailings/{mailing_id}", "gateway"):
        states = []
        for role in ("sender", "viewer"):
            await db.run("UPDATE user_account SET role = :role", role=role)
            states += re.findall(r'data-state="([^"]+)"', (await sender.get(f"/admin/{page}/live")).text)
        assert len(set(states)) == 2


async def test_a_part_that_did_not_change_is_not_sent_again(db: Database, viewer: Browser) -> None:
    mailing_id, (message_id,) = await db.add_mailing_of(["pending"])
    path = re.search(r'hx-get="([^"]+)"', (await viewer.get(f"/admin/mailings/{mailing_id}")).text)
    assert path is not None
    assert (await viewer.get(path[1])).status_code == 204
    await db.run("UPDATE message SET status = 'cancelled', finished_at = now() WHERE id = :id", id=message_id)
    changed = await viewer.get(path[1])
    while changed.status_code == 204:  # what was read a moment ago is still shared
        changed = await viewer.get(path[1])
    assert changed.status_code == 200
    assert "cancelled" in changed.text
    assert "<html" not in changed.text


async def test_a_finished_mailings_page_is_not_asked_for_again(db: Database, viewer: Browser) -> None:
    mailing_id, _ = await db.add_mailing_of(["sent"], status="finished")
    page = await viewer.get(f"/admin/mailings/{mailing_id}")
    assert "hx-get" not in page.text
    assert "data-every" not in page.text


async def test_messages_are_found_by_status_and_by_phone(db: Database, viewer: Browser) -> None:
    mailing_id = await db.add_mailing()
    clients = [await db.add_client(phone=f"7916123456{n}") for n in range(3)]
    sent, failed, pending = await db.add_messages(mailing_id, ["sent", "failed", "pending"], first_client=clients[0])
    path = f"/admin/mailings/{mailing_id}/messages"

    async def found(**typed: str) -> set[int]:
        page = (await viewer.post(path, data=typed, follow_redirects=True)).text
        return {int(number) for number in re.findall(r"/admin/messages/(\d+)", page)}

    assert await found() == {sent, failed, pending}
    assert await found(status="failed") == {failed}
    assert await found(phone="+7 916 123-45-62") == {pending}
    assert await found(phone="79161234562", status="sent") == set()
    assert await found(phone="nobody") == set()
    assert await found(status="nonsense") == {sent, failed, pending}


async def test_messages_are_paged(db: Database, viewer: Browser) -> None:
    mailing_id, ids = await db.add_mailing_of(["pending"] * 60)
    path, seen = f"/admin/mailings/{mailing_id}/messages?status=pending", []
    while path:
        page = (await viewer.get(path)).text
        seen += [int(number) for number in re.findall(r'href="/admin/messages/(\d+)"', page)]
        following = re.search(r'href="([^"]+)" rel="next"', page)
        path = following[1].replace("&amp;", "&") if following else ""
    assert seen == ids


async def test_a_messages_story_has_calls_and_acts_in_order(db: Database, viewer: Browser) -> None:
    mailing_id, (message_id,) = await db.add_mailing_of(["sent"])
    await db.add_attempt(message_id, "ambiguous", ago="20 min")
    await db.add_attempt(message_id, "accepted", number=2)
    pause = """
        INSERT INTO event (at, kind, actor, mailing_id)
        VALUES (now() - interval '10 min', 'mailing.paused', 'user 1 (anna)', :id)"""
    await db.run(pause, id=mailing_id)
    page = words(await viewer.get(f"/admin/messages/{message_id}"))
    assert re.search("Call 1 no clear answer .*Mailing paused user 1.*Call 2 accepted", page)


async def test_a_sender_resolves_an_unknown_message(db: Database, sender: Browser) -> None:
    (message_id,) = await db.add_messages(await db.add_mailing(), ["unknown"])
    path = f"/admin/messages/{message_id}"
    wrong = await sender.post(f"{path}/resolve", data={"as": "lost", "note": "kept"})
    assert wrong.status_code == 400
    assert "Choose what happened to the message." in wrong.text
    assert ">kept</textarea>" in wrong.text
    right = await sender.post(f"{path}/resolve", data={"as": "sent", "note": "seen in the log"})
    assert (right.status_code, right.headers["location"]) == (303, path)
    assert await db.value("SELECT status FROM message") == MessageStatus.sent
    page = words(await sender.get(path))
    assert "The result was saved." in page
    assert "it was delivered, “seen in the log” user 1 (sender)" in page
    assert (await sender.post(f"{path}/resolve", data={"as": "sent"})).status_code == 409


async def test_without_mailings_there_is_nothing_to_count(viewer: Browser) -> None:
    assert "There are no mailings yet" in words(await viewer.get("/admin/statistics"))


async def test_the_statistics_count_and_list_newest_first(db: Database, viewer: Browser) -> None:
    first, second = await db.add_mailing(), await db.add_mailing()
    await db.add_messages(first, ["sent"] * 3)
    await db.add_messages(second, ["sent", "failed"])
    page = await viewer.get("/admin/statistics")
    text = words(page)
    assert "2 mailings, 5 messages planned." in text
    assert "sent 4 80 % failed 1 20 %" in text
    assert [int(each) for each in re.findall(r'href="/admin/mailings/(\d+)"', page.text)] == [second, first]


async def test_a_sender_changes_the_rate_and_a_wrong_one_is_kept_in_the_form(db: Database, sender: Browser) -> None:
    wrong = await sender.post("/admin/gateway/rate", data={"rate": "quick"})
    assert wrong.status_code == 400
    assert 'value="quick"' in wrong.text
    assert "Enter a number from 0 to 100000" in wrong.text
    right = await sender.post("/admin/gateway/rate", data={"rate": "12,5"})
    assert right.status_code == 303
    assert await db.value("SELECT rate FROM gateway") == 12.5
    assert await db.value("SELECT actor FROM event WHERE kind = 'gateway.rate_changed'") == "user 1 (sender)"


async def test_the_stop_is_confirmed_in_numbers(db: Database, sender: Browser) -> None:
    await db.add_mailing_of(["pending", "pending", "sending", "sent"])
    await db.add_mailing_of(["pending"], status="paused")
    question = words(await sender.get("/admin/gateway/stop"))
    assert "1 mailing is running. 2 messages would be held back. 1 is in a call now" in question
    assert await db.value("SELECT stopped_at FROM gateway") is None
    assert (await sender.post("/admin/gateway/stop")).status_code == 303
    assert await db.value("SELECT stopped_by FROM gateway") == "user 1 (sender)"
    assert (await sender.post("/admin/gateway/start")).status_code == 303
    assert await db.value("SELECT stopped_at FROM gateway") is None


@pytest.mark.parametrize("act", ["rate", "stop", "start", "probe"])
async def test_an_editor_does_nothing_to_the_gateway(editor: Browser, act: str) -> None:
    assert (await editor.post(f"/admin/gateway/{act}", data={"rate": "1"})).status_code == 403
    assert "/admin/gateway/stop" not in (await editor.get("/admin/gateway")).text


async def test_the_page_after_an_act_shows_its_effect_while_others_follow_it(sender: Browser) -> None:
    for path in ("/admin/gateway", "/admin/gateway/live"):
        assert "Sending is possible." in words(await sender.get(path))
    assert (await sender.post("/admin/gateway/stop")).status_code == 303
    assert "Sending is possible." not in words(await sender.get("/admin/gateway"))


@pytest.mark.parametrize("page", ["/admin", "/admin/gateway", "/admin/mailings/{id}"])
async def test_a_page_that_follows_by_itself_does_not_keep_its_session_open(
    viewer: Browser, db: Database, page: str
) -> None:
    """Whoever left it open is signed out after the hour, as from any other page; whoever opens it anew is not."""
    page = page.format(id=await db.add_mailing())
    await db.run("UPDATE user_session SET last_seen_at = now() - interval '59 minutes'")
    seen = await db.value("SELECT last_seen_at FROM user_session")
    assert (await viewer.get(f"{page}/live")).status_code == 200
    assert await db.value("SELECT last_seen_at FROM user_session") == seen
    assert (await viewer.get(page)).status_code == 200
    assert await db.value("SELECT last_seen_at FROM user_session") > seen
    await db.run("UPDATE user_session SET last_seen_at = now() - interval '61 minutes'")
    shown_at = {"HX-Current-URL": f"http://test{page}/?n=1"}
    asked = await viewer.get(f"{page}/live", headers={"HX-Request": "true"} | shown_at)
    assert (asked.status_code, asked.headers["hx-redirect"]) == (401, f"/admin/sign-in?next={page}/%3Fn%3D1")
