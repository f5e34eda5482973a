"""What went wrong, as a page: in the viewer's language, and never as the API's JSON."""

import re
from collections.abc import AsyncIterator

import pytest
from litestar import Litestar
from msgspec import structs

from mailing.settings import Settings
from support.admin import Browser, admin_handlers, browser_at
from support.api import running_app

ENGLISH = re.compile("[A-Za-z]+(?: [a-z]+)+")
NOWHERE = ("nowhere", "mailings/abc", "messages/x", "reports/2026-13-01", "clients/uploads/x")
GONE = ("mailings/9", "messages/9", "clients/9", "clients/uploads/9", "users/9", "keys/9/revoke", "reports/2999-01-01")


def content(answer_text: str) -> str:
    """Return the words of the page's own part."""
    main = answer_text.partition("<main")[2].partition("</main>")[0].partition(">")[2]
    return re.sub(r"\s+", " ", re.sub("<[^>]*>", " ", main)).strip()


async def english(browser: Browser, path: str, status: int, *, method: str = "GET", **sent: object) -> list[str]:
    """Return what is English on the page, which must be a page with this status."""
    answer = await browser.request(method, f"/admin/{path}", **sent)  # type: ignore[arg-type]
    assert (answer.status_code, answer.headers["content-type"]) == (status, "text/html; charset=utf-8"), path
    assert content(answer.text)
    return ENGLISH.findall(content(answer.text))


@pytest.fixture
def russian(admin: Browser) -> Browser:
    admin.headers["Accept-Language"] = "ru"
    return admin


@pytest.mark.parametrize("path", [*NOWHERE, *GONE])
async def test_what_is_not_there_is_told_in_the_viewers_language(russian: Browser, path: str) -> None:
    assert await english(russian, path, 404) == []


async def test_what_is_refused_is_told_in_the_viewers_language(russian: Browser, viewer: Browser) -> None:
    viewer.headers["Accept-Language"] = "ru"
    assert await english(viewer, "mailings/new", 403) == []
    assert await english(viewer, "gateway/stop", 403) == []
    assert await english(viewer, "users", 403) == []
    assert await english(russian, "preferences", 403, method="POST", headers={"Sec-Fetch-Site": "cross-site"}) == []

    assert await english(russian, "mailings/99999999999999999999", 400) == []
    assert await english(russian, "gateway/rate", 413, method="POST", data={"rate": "1" * 20_000}) == []
    many = {f"field{number}": "1" for number in range(51)}
    assert await english(russian, "preferences", 413, method="POST", data=many) == []
    assert await english(russian, "gateway", 405, method="DELETE") == []


@pytest.fixture
async def without_database(settings: Settings) -> AsyncIterator[Browser]:
    nowhere = structs.replace(settings, database_url="postgresql://nobody@127.0.0.1:1/nothing")
    async with running_app(nowhere) as app, browser_at(app) as browser:
        browser.headers["Accept-Language"] = "ru"
        browser.cookies.set("mailing_session", "some")
        yield browser


async def test_a_database_that_is_down_is_told_in_the_viewers_language(without_database: Browser) -> None:
    assert await english(without_database, "mailings", 503) == []
    typed = {"text": "Зимняя скидка", "starts_at": "2030-01-01T10:00", "zone": "UTC", "form_user": "1"}
    assert await english(without_database, "mailings/new", 503, method="POST", data=typed) == []
    shown = await without_database.post("/admin/mailings/new", data=typed)
    assert "Что вы ввели" in shown.text
    assert "Зимняя скидка</dd>" in shown.text
    assert 'name="form_restored"' in shown.text


async def test_an_address_that_takes_a_form_only_leads_to_the_page_above_it(app: Litestar, admin: Browser) -> None:
    """As after a change of language beside a refused form, whose address the footer names."""
    pages = {path for method, path, _ in admin_handlers(app) if method == "GET"}
    forms_only = {path for _, path, _ in admin_handlers(app)} - pages
    assert len(forms_only) > 10
    assert {path.rpartition("/")[0] for path in forms_only} <= pages | {"/admin"}
    for path in sorted(forms_only):
        answer = await admin.get(path, follow_redirects=True)
        assert answer.headers["content-type"] == "text/html; charset=utf-8", path
        assert answer.status_code == (404 if "999999" in path else 200), path


async def test_the_title_of_a_refused_form_says_so(admin: Browser) -> None:
    """A reader of the screen hears the title first."""
    forms = ("mailings/new", "clients/new", "clients", "clients/upload", "gateway/rate", "users", "keys")
    for path in (*forms, "account/password"):
        refused = await admin.post(f"/admin/{path}", data={"rate": "abc", "begins": "abc"})
        assert refused.status_code == 400, path
        assert "<title>Error: " in refused.text, path
    assert "<title>New mailing" in (await admin.get("/admin/mailings/new")).text


async def test_a_language_is_changed_beside_a_refused_form(admin: Browser) -> None:
    refused = await admin.post("/admin/gateway/rate", data={"rate": "abc"})
    [here] = re.findall('name="next" value="([^"]*)"', refused.text)
    changed = await admin.post("/admin/preferences", data={"next": here, "language": "ru"}, follow_redirects=True)
    assert (changed.status_code, str(changed.url)) == (200, "http://test/admin/gateway")
    assert 'lang="ru"' in changed.text
