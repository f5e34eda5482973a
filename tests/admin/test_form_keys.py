"""A form that is sent twice is done once, whichever form it is, at once or one after the other."""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import httpx
import pytest
from litestar import Litestar

import mailing.admin
from mailing.admin import form_keys
from support.admin import Browser, mailing_form
from support.answers import words
from support.database import Database
from support.processes import until
from support.query_plans import executed

TEMPLATES = Path(str(mailing.admin.__file__)).parent

# They show something, or end what a second time finds ended.
UNKEYED = {
    "/admin/sign-in{% if fields %}/form{% endif %}",
    "/admin/sign-out",
    "/admin/account/sign-out-everywhere",
    "/admin/account/close-session?session_id={{ each.id }}",
    "/admin/account/password",
    "/admin/preferences",
    "/admin/clients",
    "/admin/mailings/{{ mailing.id }}/messages",
    "/admin/users/{{ user.id }}/password",
    "/admin/users/{{ user.id }}/role",
    "/admin/users/{{ user.id }}/disable",
}


def test_every_form_that_changes_something_carries_a_key() -> None:
    found = [
        (action, "form_key()" in action + inside or "form_restored" in inside)
        for path in TEMPLATES.rglob("*.html")
        for action, inside in re.findall(
            r'<form[^>]*method="post"[^>]*?action="([^"]*)".*?>(.*?)</form>', path.read_text(), re.DOTALL
        )
    ]
    assert len(found) > 20
    assert sorted(action for action, keyed in found if not keyed and action not in UNKEYED) == []
    assert sorted(action for action, keyed in found if keyed and action in UNKEYED) == []


async def key_on(browser: Browser, page: str) -> str:
    shown = await browser.get(page)
    assert shown.status_code == 200
    found = re.search(r'name="form_key" value="([^"]+)"', shown.text)
    assert found, page
    return found[1]


async def twice(browser: Browser, page: str, data: Mapping[str, str | list[str]], *, to: str = "") -> httpx.Response:
    """Send the form of `page` twice at once, and once more; the three answers must be one."""
    sent = {**data, "form_key": await key_on(browser, page)}
    answers = list(await asyncio.gather(*(browser.post(to or page, data=sent) for _ in range(2))))
    answers.append(await browser.post(to or page, data=sent))
    assert {answer.status_code for answer in answers} <= {201, 303}, [answer.text for answer in answers]
    assert len({(each.status_code, each.headers.get("location"), each.text) for each in answers}) == 1
    return answers[0]


@pytest.mark.parametrize("begin", ["/admin/mailings/new", "/admin/mailings/new?like={}"])
async def test_a_mailing_sent_twice_is_made_once(db: Database, sender: Browser, begin: str) -> None:
    like = await db.add_mailing()
    answer = await twice(sender, begin.format(like), mailing_form(text="Twice"), to="/admin/mailings/new")
    made = await db.value("SELECT id FROM mailing WHERE text = 'Twice'")
    assert answer.headers["location"] == f"/admin/mailings/{made}"
    assert await db.value("SELECT count(*) FROM mailing WHERE text = 'Twice'") == 1
    assert "The mailing was saved." in words(await sender.get(answer.headers["location"]))


async def test_a_page_loaded_anew_makes_a_second_mailing(db: Database, sender: Browser) -> None:
    for _ in range(2):
        await twice(sender, "/admin/mailings/new", mailing_form(text="Twice"))
    assert await db.value("SELECT count(*) FROM mailing WHERE text = 'Twice'") == 2


async def test_a_form_sent_again_with_other_content_is_refused(db: Database, sender: Browser) -> None:
    key = {"form_key": await key_on(sender, "/admin/mailings/new")}
    assert (await sender.post("/admin/mailings/new", data=mailing_form() | key)).status_code == 303
    other = await sender.post("/admin/mailings/new", data=mailing_form(text="Other") | key)
    assert other.status_code == 409
    assert "This form was sent before, with other content." in other.text
    assert await db.value("SELECT count(*) FROM mailing") == 1


async def test_a_refused_form_may_be_sent_again(db: Database, sender: Browser) -> None:
    key = {"form_key": await key_on(sender, "/admin/mailings/new")}
    assert (await sender.post("/admin/mailings/new", data=mailing_form(text="") | key)).status_code == 400
    assert (await sender.post("/admin/mailings/new", data=mailing_form() | key)).status_code == 303
    assert await db.value("SELECT count(*) FROM mailing") == 1


async def test_the_plan_may_be_asked_for_before_the_form_is_sent(db: Database, sender: Browser) -> None:
    sent = mailing_form() | {"form_key": await key_on(sender, "/admin/mailings/new")}
    plans = await asyncio.gather(*(sender.post("/admin/mailings/plan", data=sent) for _ in range(2)))
    assert [plan.status_code for plan in plans] == [200, 200]
    assert (await sender.post("/admin/mailings/new", data=sent)).status_code == 303
    assert await db.value("SELECT count(*) FROM idempotency_key") == 1


async def test_a_form_without_a_key_is_done_each_time(db: Database, sender: Browser) -> None:
    for _ in range(2):
        assert (await sender.post("/admin/mailings/new", data=mailing_form())).status_code == 303
    assert await db.value("SELECT count(*) FROM mailing") == 2
    guessed = await sender.post("/admin/mailings/new", data=mailing_form() | {"form_key": "1"})
    assert guessed.status_code == 400


async def test_the_key_of_one_user_is_no_key_of_another(sender: Browser, admin: Browser) -> None:
    sent = mailing_form() | {"form_key": await key_on(sender, "/admin/mailings/new")}
    places = [(await each.post("/admin/mailings/new", data=sent)).headers["location"] for each in (sender, admin)]
    assert len(set(places)) == 2


async def test_a_test_sent_twice_goes_out_once(db: Database, sender: Browser) -> None:
    await db.add_client(phone="79161234567")
    page = f"/admin/mailings/{await db.add_mailing()}/test"
    await twice(sender, page, {"phone": "79161234567"})
    assert await db.value("SELECT count(*) FROM mailing WHERE test_of_mailing_id IS NOT NULL") == 1


async def test_failed_messages_are_resent_once(db: Database, sender: Browser) -> None:
    mailing, _ = await db.add_mailing_of(["failed"], first_client=await db.add_client())
    answer = await twice(sender, f"/admin/mailings/{mailing}/resend-failed", {})
    assert answer.headers["location"] == f"/admin/mailings/{mailing}"
    assert await db.value("SELECT count(*) FROM event WHERE kind LIKE 'mailing.resen%'") == 1


async def test_a_user_and_a_client_are_made_once(db: Database, admin: Browser) -> None:
    user = {"name": "bert", "role": "viewer", "password": "correct horse battery"}
    assert (await twice(admin, "/admin/users", user)).headers["location"].startswith("/admin/users/")
    client = {"phone": "79161234567", "timezone": "Europe/Moscow"}
    assert (await twice(admin, "/admin/clients/new", client)).headers["location"].startswith("/admin/clients/")
    assert await db.value("SELECT count(*) FROM user_account WHERE name = 'bert'") == 1


async def test_a_file_is_stored_once(db: Database, editor: Browser) -> None:
    action = re.search(r'action="(/admin/clients/upload[^"]+)"', (await editor.get("/admin/clients/upload")).text)
    assert action
    file = {"file": ("clients.csv", b"phone,timezone\n79161234567,Europe/Moscow\n")}
    answers = await asyncio.gather(*(editor.post(action[1], files=file) for _ in range(2)))
    assert [answer.status_code for answer in answers] == [303, 303]
    assert len({answer.headers["location"] for answer in answers}) == 1
    assert await db.value("SELECT count(*) FROM upload") == 1


async def test_a_file_may_arrive_slowly(app: Litestar, db: Database, editor: Browser) -> None:
    """The server ends a transaction that is idle for five seconds."""
    page = (await editor.get("/admin/clients/upload")).text
    action = re.search(r'action="(/admin/clients/upload[^"]+)"', page)
    assert action

    async def file() -> AsyncIterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="clients.csv"\r\n\r\nphone,timezone\n'
        assert app.state.engine.pool.checkedout() == 0
        yield b"79161234567,Europe/Moscow\n\r\n--x--\r\n"

    kind = {"content-type": "multipart/form-data; boundary=x"}
    answers = [await editor.post(action[1], content=file(), headers=kind) for _ in range(2)]
    assert [answer.headers.get("location") for answer in answers] == ["/admin/clients/uploads/1"] * 2
    assert await db.value("SELECT count(*) FROM upload") == 1


async def test_an_upload_is_confirmed_once(editor: Browser) -> None:
    file = {"file": ("clients.csv", b"phone,operator_code,tag,timezone\n79161234567,916,vip,Europe/Moscow\n")}
    page = (await editor.post("/admin/clients/upload", files=file)).headers["location"]
    answer = await twice(editor, page, {}, to=f"{page}/import")
    assert answer.headers["location"] == page


async def test_an_api_key_is_made_once_and_shown_by_both_answers(db: Database, admin: Browser) -> None:
    answer = await twice(admin, "/admin/keys", {"name": "shop", "scope": "full"})
    secret = re.search(r'<code class="secret"[^>]*>([^<]+)<', answer.text)
    assert secret
    assert await db.value("SELECT count(*) FROM api_key") == 1
    kept = await db.run("SELECT key, encode(body, 'escape'), headers::text FROM idempotency_key")
    assert len(kept) == 1
    assert secret[1] not in str(kept)
    assert "secret" not in str(kept)


async def test_those_who_wait_for_the_first_hold_no_connection(
    app: Litestar, db: Database, sender: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(form_keys, "WAIT_S", 60)
    sent = mailing_form() | {"form_key": await key_on(sender, "/admin/mailings/new")}
    async with db.engine.connect() as holder, asyncio.TaskGroup() as tasks:
        await holder.exec_driver_sql("LOCK TABLE mailing IN EXCLUSIVE MODE")
        with executed() as ran:
            posts = [tasks.create_task(sender.post("/admin/mailings/new", data=sent)) for _ in range(4)]
            await until(lambda: sum("pg_try_advisory" in statement for statement, _ in ran) > 2 * len(posts))
        await until(lambda: app.state.engine.pool.checkedout() == 1)
        await holder.rollback()
    answers = {(post.result().status_code, post.result().headers["location"]) for post in posts}
    assert answers == {(303, "/admin/mailings/1")}
    assert await db.value("SELECT count(*) FROM mailing") == 1
