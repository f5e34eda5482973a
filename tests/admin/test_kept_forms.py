"""A form that is sent after its session ended is there again after the sign-in, and nothing was sent."""

import html
import re
from collections.abc import AsyncIterator

import httpx
import pytest
from litestar import Litestar
from playwright.async_api import Browser as Chromium
from playwright.async_api import expect

from mailing.access.roles import Role
from mailing.database.engine import transaction
from support import browser
from support.admin import Browser, browser_at, mailing_form
from support.browser import CHROMIUM, WITHOUT, watched
from support.database import Database
from support.users import PASSWORD, add_user

TEXT = 'Winter sale: "all" <b>must</b> go,\nДоставка & more'


@pytest.fixture
async def anna(app: Litestar, db: Database) -> AsyncIterator[Browser]:
    async with transaction(db.sessions) as session:
        for name in ("anna", "bert"):
            await add_user(session, name, Role.ADMIN)
    async with browser_at(app) as browser:
        await sign_in(browser, "anna")
        yield browser


async def sign_in(browser: Browser, name: str, **fields: str) -> httpx.Response:
    return await browser.post("/admin/sign-in/form", data={"name": name, "password": PASSWORD, **fields})


def hidden(page: httpx.Response) -> dict[str, str]:
    found = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', page.text)
    return {name: html.unescape(value) for name, value in found}


async def test_a_mailing_written_past_the_session_is_there_after_the_sign_in(db: Database, anna: Browser) -> None:
    typed = mailing_form(text=TEXT) | {"form_user": hidden(await anna.get("/admin/mailings/new"))["form_user"]}
    await db.run("DELETE FROM user_session")
    held = await anna.post("/admin/mailings/new", data=typed)
    assert held.status_code == 401
    assert "Your session has ended." in held.text
    wrong = await anna.post("/admin/sign-in/form", data=hidden(held) | {"name": "anna", "password": "wrong"})
    assert wrong.status_code == 400
    signed_in = await sign_in(anna, "anna", kept=hidden(wrong)["kept"], next="/admin/mailings/new")
    assert signed_in.status_code == 200
    again = {name: value for name, value in hidden(signed_in).items() if name != "next"}
    shown = await anna.post("/admin/mailings/new", data=again)
    assert shown.status_code == 200
    assert "Nothing was sent yet" in shown.text
    assert html.escape(TEXT, quote=False) in shown.text.replace("&#34;", '"')
    assert str(typed["ends_at"]) in shown.text
    assert await db.value("SELECT count(*) FROM mailing") == 0
    sent = typed | {"form_key": hidden(shown)["form_key"]}
    assert (await anna.post("/admin/mailings/new", data=sent)).status_code == 303
    assert await db.value("SELECT count(*) FROM mailing") == 1


async def test_a_form_whose_plan_is_asked_for_past_the_session_is_that_of_the_same_mailing(
    db: Database, anna: Browser
) -> None:
    mailing_id = await db.add_mailing(status="draft")
    user = {"form_user": hidden(await anna.get("/admin/mailings/new"))["form_user"]}
    for path in (f"plan?mailing_id={mailing_id}", f"choices?of=tags&mailing_id={mailing_id}"):
        await db.run("DELETE FROM user_session")
        held = await anna.post(f"/admin/mailings/{path}", data=mailing_form(text=TEXT) | user)
        assert held.status_code == 401
        signed_in = await sign_in(anna, "anna", kept=hidden(held)["kept"], next=hidden(held)["next"])
        again = {name: value for name, value in hidden(signed_in).items() if name != "next"}
        assert html.escape(f'action="/admin/mailings/{path}"', quote=False) in signed_in.text
        shown = await anna.post(f"/admin/mailings/{path}", data=again)
        assert html.escape(TEXT, quote=False) in shown.text.replace("&#34;", '"')
        assert f'action="/admin/mailings/{mailing_id}/edit"' in shown.text


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ("UPDATE mailing SET status = 'cancelled', deleted_at = now()", 404),
        ("UPDATE user_account SET role = 'viewer'", 403),
    ],
)
@pytest.mark.parametrize("path", ["edit", "plan"])
@pytest.mark.parametrize("restored", [{}, {"form_restored": "yes"}])
async def test_what_was_typed_is_shown_where_it_can_no_longer_be_saved(
    db: Database, anna: Browser, change: str, status: int, path: str, restored: dict[str, str]
) -> None:
    mailing_id = await db.add_mailing(status="draft")
    user = {"form_user": hidden(await anna.get("/admin/mailings/new"))["form_user"]}
    await db.run(change)
    address = {"edit": f"/admin/mailings/{mailing_id}/edit", "plan": f"/admin/mailings/plan?mailing_id={mailing_id}"}
    typed = mailing_form(text=TEXT, tags=["vip", "new"])
    refused = await anna.post(address[path], data=typed | user | restored)
    assert refused.status_code == status
    shown = html.unescape(refused.text)
    for words in (TEXT, typed["starts_at"], "Europe/Moscow", "vip, new"):
        assert f"{words}</dd>" in shown
    assert "Back to the form" not in shown


async def test_another_user_does_not_get_the_form(db: Database, anna: Browser) -> None:
    typed = mailing_form(text=TEXT) | {"form_user": hidden(await anna.get("/admin/mailings/new"))["form_user"]}
    await db.run("DELETE FROM user_session")
    held = await anna.post("/admin/mailings/new", data=typed)
    started = await sign_in(anna, "bert", kept=hidden(held)["kept"], next="/admin/mailings/new")
    assert (started.status_code, started.headers["location"]) == (303, "/admin/")
    asked = await anna.post("/admin/mailings/new", data=typed | {"form_restored": "yes"})
    assert (asked.status_code, asked.headers["location"]) == (303, "/admin/")
    assert await db.value("SELECT count(*) FROM mailing") == 0


@pytest.mark.parametrize(
    ("page", "typed", "shown"),
    [
        ("/admin/users", {"name": "newcomer", "role": "editor", "password": "a secret phrase"}, 'value="newcomer"'),
        ("/admin/keys", {"name": "web shop", "scope": "read"}, 'value="web shop"'),
        ("/admin/clients/new", {"phone": "79161234567", "timezone": "Asia/Omsk"}, 'value="79161234567"'),
    ],
)
async def test_other_forms_come_back_without_passwords(
    db: Database, anna: Browser, page: str, typed: dict[str, str], shown: str
) -> None:
    user = {"form_user": hidden(await anna.get(page))["form_user"]}
    await db.run("DELETE FROM user_session")
    held = await anna.post(page, data=typed | user)
    assert held.status_code == 401
    assert "a secret phrase" not in held.text
    signed_in = await sign_in(anna, "anna", kept=hidden(held)["kept"], next=page)
    again = await anna.post(page, data={k: v for k, v in hidden(signed_in).items() if k != "next"})
    assert again.status_code == 200
    assert shown in again.text
    counts = "SELECT (SELECT count(*) FROM client) + (SELECT count(*) FROM api_key)"
    assert await db.value(counts) == 0
    assert await db.value("SELECT count(*) FROM user_account") == 2


async def test_a_form_without_a_text_is_not_done_by_asking_for_it(db: Database, anna: Browser) -> None:
    user = hidden(await anna.get("/admin/mailings/new"))["form_user"]
    answer = await anna.post("/admin/gateway/stop", data={"form_user": user, "form_restored": "yes"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/admin/")
    assert await db.value("SELECT stopped_at FROM gateway") is None


async def test_no_kept_form_leads_to_another_site(anna: Browser) -> None:
    user = hidden(await anna.get("/admin/mailings/new"))["form_user"]
    kept = f'[["text","x"],["form_user","{user}"]]'
    answer = await sign_in(anna, "anna", kept=kept, next="https://evil.example/admin/")
    assert "evil.example" not in answer.text
    assert (await sign_in(anna, "anna", kept="[[", next="/admin/keys")).headers["location"] == "/admin/keys"


async def test_typing_past_the_session_leaves_the_page_as_it_is(db: Database, anna: Browser) -> None:
    await db.run("DELETE FROM user_session")
    answer = await anna.post("/admin/mailings/plan", data=mailing_form(), headers={"HX-Request": "true"})
    assert answer.status_code == 401
    assert "HX-Redirect" not in answer.headers
    assert "what you typed is kept" in answer.text


@pytest.mark.skipif(CHROMIUM is None, reason=WITHOUT)
@pytest.mark.timeout(300)
@pytest.mark.parametrize("script", [True, False])
async def test_in_a_browser_a_double_click_and_an_ended_session(
    address: str, db: Database, chromium: Chromium, script: bool
) -> None:
    await db.commit(add_user, "anna", Role.ADMIN)
    context = await chromium.new_context(locale="en-GB", java_script_enabled=script)
    page = await context.new_page()
    seen = watched(page)
    page.set_default_timeout(60_000)
    await page.goto(f"{address}/admin/account")
    await browser.sign_in(page)
    await page.wait_for_url(f"{address}/admin/account")
    await page.goto(f"{address}/admin/mailings/new")
    await page.get_by_label("Text", exact=True).fill(TEXT)
    await db.run("DELETE FROM user_session")
    button = page.get_by_role("button", name="Create the mailing")
    await button.click()
    await browser.sign_in(page)
    if not script:
        await page.get_by_role("button", name="Back to the form").click()
    await expect(page.get_by_label("Text", exact=True)).to_have_value(TEXT, timeout=60_000)
    assert await db.value("SELECT count(*) FROM mailing") == 0
    await button.dblclick()
    await page.wait_for_url(re.compile(r"/admin/mailings/\d+$"))
    assert await db.value("SELECT count(*) FROM mailing") == 1
    assert await db.value("SELECT text FROM mailing") == TEXT
    assert seen.blocked == []
