import asyncio
import html
import re
from collections.abc import AsyncIterator

import httpx
import pytest
from litestar import Litestar

from mailing.access import lockout, users
from mailing.database.engine import transaction
from mailing.process.preparation import create_first_user
from mailing.settings import Settings
from support.admin import Browser, browser_at
from support.answers import words
from support.api import running_app
from support.database import Database
from support.identity_provider import signed_in_at, with_sign_in_at
from support.users import PASSWORD, PASSWORD_HASH, made

COOKIE = "mailing_session"
ANNA = {"name": "anna", "password": PASSWORD}


async def signs_in(browser: Browser, **sent: str) -> httpx.Response:
    return await browser.post("/admin/sign-in", data=ANNA | sent)


@pytest.fixture
async def anna(db: Database) -> int:
    return await made(db)


@pytest.mark.usefixtures("anna")
async def test_a_name_and_its_password_lead_to_the_page_that_was_asked_for(stranger: Browser) -> None:
    sent_away = await stranger.get("/admin/account")
    assert (sent_away.status_code, sent_away.headers["location"]) == (303, "/admin/sign-in?next=/admin/account")
    assert 'value="/admin/account"' in (await stranger.get(sent_away.headers["location"])).text
    answer = await signs_in(stranger, next="/admin/account")
    assert (answer.status_code, answer.headers["location"]) == (303, "/admin/account")
    assert "<h1><bdi>anna</bdi></h1>" in (await stranger.get("/admin/account")).text


@pytest.mark.usefixtures("anna")
async def test_a_sign_in_leads_back_to_the_search_that_was_asked_for(stranger: Browser) -> None:
    asked = "/admin/mailings?q=%D1%81%D0%BA%D0%B8%D0%B4%D0%BA%D0%B0+20%25&status=draft"
    sent_away = await stranger.get(asked)
    shown = await stranger.get(sent_away.headers["location"])
    [next_page] = re.findall('name="next" value="([^"]*)"', shown.text)[:1]
    assert (await signs_in(stranger, next=html.unescape(next_page))).headers["location"] == asked


async def test_a_button_pressed_after_the_session_ended_leads_back_and_says_that_nothing_was_done(
    stranger: Browser,
) -> None:
    sent_away = await stranger.post("/admin/gateway/stop")
    assert (sent_away.status_code, sent_away.headers["location"]) == (303, "/admin/sign-in?next=/admin/gateway/stop")
    assert "Nothing was changed" in words(await stranger.get(sent_away.headers["location"]))


@pytest.mark.usefixtures("anna")
async def test_the_cookie_is_for_this_host_and_no_script_and_under_https_for_nothing_else(app: Litestar) -> None:
    async with browser_at(app) as browser:
        plain = (await signs_in(browser)).headers["set-cookie"]
        browser.base_url = httpx.URL("https://test")
        protected = (await signs_in(browser)).headers["set-cookie"]
    assert plain.startswith("mailing_session=")
    assert protected.startswith("__Host-mailing=")
    assert "Secure" in protected
    for cookie in (plain, protected):
        assert {"HttpOnly", "Path=/", "SameSite=lax"} <= {part.strip() for part in cookie.split(";")}
        assert "Domain" not in cookie


@pytest.mark.usefixtures("anna")
async def test_a_session_brought_along_is_never_the_one_that_is_signed_in(stranger: Browser, viewer: Browser) -> None:
    stranger.cookies.set(COOKIE, "chosen-by-somebody-else")
    first = (await signs_in(stranger)).cookies[COOKIE]
    assert first != "chosen-by-somebody-else"
    brought = viewer.cookies[COOKIE]
    stranger.cookies.clear()
    stranger.cookies.set(COOKIE, brought)
    assert (await signs_in(stranger)).cookies[COOKIE] != brought
    assert (await viewer.get("/admin/account")).status_code == 303, "the one that was brought along is closed"


@pytest.mark.usefixtures("anna")
async def test_a_wrong_password_keeps_the_name_and_never_the_password(stranger: Browser) -> None:
    answer = await signs_in(stranger, password="hunter2-hunter2", name='an"><script>na')
    assert answer.status_code == 400
    assert "The name or the password is wrong." in answer.text
    assert "hunter2" not in answer.text
    assert "<script>na" not in answer.text
    assert "an&#34;&gt;&lt;script&gt;na" in answer.text


@pytest.mark.usefixtures("anna")
async def test_guessing_is_stopped_and_told_how_long_to_wait(stranger: Browser) -> None:
    answers = [await signs_in(stranger, password="wrong words here") for _ in range(lockout.MAX_ACCOUNT_TRIES + 1)]
    assert [answer.status_code for answer in answers] == [400] * lockout.MAX_ACCOUNT_TRIES + [429]
    assert "You can try again in" in answers[-1].text
    assert 0 < int(answers[-1].headers["retry-after"]) <= lockout.FIRST_LOCK_S
    assert (await signs_in(stranger)).status_code == 429, "the right password too"


async def test_an_address_that_guesses_at_many_names_is_stopped_whatever_it_says_of_itself(stranger: Browser) -> None:
    answers = []
    for number in range(lockout.MAX_ADDRESS_TRIES + 1):
        stranger.headers.update({"X-Forwarded-For": f"10.0.0.{number}", "Forwarded": f"for=10.0.0.{number}"})
        answers.append(await signs_in(stranger, name=f"user{number}", password="wrong words here"))
    assert [answer.status_code for answer in answers] == [400] * lockout.MAX_ADDRESS_TRIES + [429]


@pytest.mark.parametrize("body", [b"", b"\xff\xfe", b"name=%00&password=%ff", b"name=a&name=b", b"x" * 5000])
async def test_no_form_is_too_strange(stranger: Browser, body: bytes) -> None:
    for kind in ("application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/json", "x"):
        answer = await stranger.post("/admin/sign-in", content=body, headers={"Content-Type": kind})
        assert answer.status_code in (400, 415, 429)


async def test_signing_out_ends_the_session_and_not_only_the_cookie(viewer: Browser) -> None:
    token = viewer.cookies[COOKIE]
    answer = await viewer.post("/admin/sign-out")
    assert (answer.status_code, answer.headers["location"]) == (303, "/admin/sign-in")
    assert 'mailing_session=""' in str(answer.headers)
    viewer.cookies.clear()
    viewer.cookies.set(COOKIE, token)
    assert (await viewer.get("/admin/account")).status_code == 303


@pytest.mark.usefixtures("anna")
async def test_other_browsers_are_listed_and_signed_out_one_by_one_or_all(app: Litestar) -> None:
    async with browser_at(app) as here, browser_at(app) as there, browser_at(app) as third:
        there.headers["User-Agent"] = "<b>Netscape</b>"
        for browser in (here, there, third):
            await signs_in(browser)
        shown = (await here.get("/admin/account")).text
        assert "&lt;b&gt;Netscape" in shown
        assert shown.count("/close") == 2
        await here.post("/admin/account/close-session?session_id=2")
        assert [(await each.get("/admin/account")).status_code for each in (here, there, third)] == [200, 303, 200]
        await here.post("/admin/account/sign-out-everywhere")
        assert [(await each.get("/admin/account")).status_code for each in (here, third)] == [303, 303]


@pytest.mark.usefixtures("anna")
async def test_a_changed_password_ends_the_other_sessions_and_stays_signed_in_here(app: Litestar) -> None:
    new = "entirely new words"
    async with browser_at(app) as here, browser_at(app) as there:
        for browser in (here, there):
            await signs_in(browser)
        before = here.cookies[COOKIE]
        answer = await here.post("/admin/account/password", data={"old": PASSWORD, "password": new, "again": new})
        assert answer.status_code == 303
        assert here.cookies[COOKIE] != before
        assert [(await each.get("/admin/account")).status_code for each in (here, there)] == [200, 303]
        assert (await signs_in(there)).status_code == 400
        assert (await signs_in(there, password=new)).status_code == 303


@pytest.mark.usefixtures("anna")
@pytest.mark.parametrize(
    ("sent", "complaint"),
    [
        ({"old": "wrong words here", "password": "entirely new words"}, "The name or the password is wrong."),
        ({"old": PASSWORD, "password": "short"}, "New password: must have 10 to 200 characters"),
        ({"old": PASSWORD, "password": "entirely new words", "again": "x"}, "does not match the repeated one"),
        ({}, "wrong"),
    ],
)
async def test_a_password_is_changed_only_by_who_knows_it(
    stranger: Browser, sent: dict[str, str], complaint: str
) -> None:
    await signs_in(stranger)
    form = {"again": sent.get("password", "")} | sent
    answer = await stranger.post("/admin/account/password", data=form)
    assert answer.status_code == 400
    assert complaint in answer.text
    assert "entirely new words" not in answer.text
    assert (await stranger.get("/admin/account")).status_code == 200


async def test_a_stolen_session_does_not_help_to_guess_the_password(viewer: Browser) -> None:
    form = {"old": "wrong words here", "password": "entirely new words", "again": "entirely new words"}
    answers = [await viewer.post("/admin/account/password", data=form) for _ in range(lockout.MAX_ACCOUNT_TRIES + 1)]
    assert "Too many failed sign-ins" in answers[-1].text


@pytest.fixture
async def with_provider(settings: Settings, issuer: str) -> AsyncIterator[Browser]:
    async with running_app(with_sign_in_at(issuer, settings)) as app, browser_at(app) as browser:
        yield browser


async def test_the_identity_provider_leads_in_as_the_role_of_the_group(with_provider: Browser) -> None:
    shown = await with_provider.get("/admin/sign-in?next=/admin/account")
    assert "Sign in with 127.0.0.1" in shown.text
    away = await with_provider.get("/admin/sign-in/oidc?next=/admin/account")
    back = await signed_in_at(away.headers["location"])
    with_provider.headers["Sec-Fetch-Site"] = "cross-site"
    answer = await with_provider.get("/admin/sign-in/oidc/back", params=back)
    assert (answer.status_code, answer.headers["location"]) == (303, "/admin/account")
    account = (await with_provider.get("/admin/account")).text
    assert "<h1><bdi>clara</bdi></h1>" in account
    assert "editor" in account
    assert "/admin/account/password" not in account


async def test_an_answer_for_another_browser_or_a_second_time_lets_nobody_in(with_provider: Browser) -> None:
    away = await with_provider.get("/admin/sign-in/oidc")
    kept = dict(with_provider.cookies)
    back = await signed_in_at(away.headers["location"])
    with_provider.cookies.clear()
    answers = [await with_provider.get("/admin/sign-in/oidc/back", params=back)]
    with_provider.cookies.update(kept)
    answers.append(await with_provider.get("/admin/sign-in/oidc/back", params=back | {"state": "x"}))
    with_provider.cookies.update(kept)
    assert (await with_provider.get("/admin/sign-in/oidc/back", params=back)).status_code == 303
    with_provider.cookies.clear()
    with_provider.cookies.update(kept)
    answers.append(await with_provider.get("/admin/sign-in/oidc/back", params=back))
    answers.append(await with_provider.get("/admin/sign-in/oidc/back", params={"state": "\x00", "code": "<b>"}))
    with_provider.cookies.set(f"{COOKIE}_begun", "no begun sign-in")
    answers.append(await with_provider.get("/admin/sign-in/oidc/back", params=back))
    assert [answer.status_code for answer in answers] == [400] * 5
    assert [answer.cookies.get(COOKIE) for answer in answers] == [None] * 5


async def test_without_a_provider_there_is_no_way_to_it(stranger: Browser) -> None:
    assert "Sign in with" not in (await stranger.get("/admin/sign-in")).text
    assert (await stranger.get("/admin/sign-in/oidc")).status_code == 404


async def test_the_first_user_is_made_once_with_the_configured_password(settings: Settings) -> None:
    first = {"name": "admin", "password": "from the environment"}
    await create_first_user(str(settings.database_url), "from the environment")
    async with running_app(settings) as app, browser_at(app) as browser:
        assert (await browser.post("/admin/sign-in", data=first)).status_code == 303
        async with transaction(app.state.sessions) as session:
            await users.set_password(session, 1, password_hash=PASSWORD_HASH, by="tests")
    await create_first_user(str(settings.database_url), "from the environment")
    async with running_app(settings) as app, browser_at(app) as browser:
        assert (await browser.post("/admin/sign-in", data=first)).status_code == 400


async def test_a_flood_of_sign_ins_leaves_other_pages_answering(db: Database, stranger: Browser) -> None:
    await made(db)
    flood = [signs_in(stranger, name=f"user{number}", password="wrong words here") for number in range(40)]
    answers = await asyncio.gather(*flood, stranger.get("/admin/sign-in"))
    assert answers[-1].status_code == 200
    assert {answer.status_code for answer in answers[:-1]} <= {400, 429, 503}
