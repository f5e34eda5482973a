"""A form that outlived its session is there again after the sign-in through the identity provider, in a browser."""

import re

import pytest
from playwright.async_api import Browser, BrowserContext, Page, expect

from mailing.settings import Settings
from support.browser import CHROMIUM, WITHOUT, watched
from support.database import Database
from support.identity_provider import with_sign_in_at

FORM = {
    "Text": 'Winter sale: "all" <b>must</b> go,\nДоставка & more',
    "Start": "2040-05-06T10:30",
    "End": "2040-05-06T20:15",
    "Time zone of these times": "Asia/Omsk",
    "From": "09:05",
    "Until": "20:55",
}

pytestmark = [pytest.mark.skipif(CHROMIUM is None, reason=WITHOUT), pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def settings(settings: Settings, issuer: str) -> Settings:
    return with_sign_in_at(issuer, settings)


@pytest.fixture
async def context(request: pytest.FixtureRequest, chromium: Browser) -> BrowserContext:
    """With or without script."""
    context = await chromium.new_context(locale="en-GB", java_script_enabled=request.param)
    context.set_default_timeout(60_000)
    await context.route("https://cdn.jsdelivr.net/**", lambda route: route.abort())  # the provider's style
    return context


@pytest.mark.parametrize("context", [True, False], ids=["script", "no script"], indirect=True)
async def test_the_form_is_there_and_nothing_was_made(
    request: pytest.FixtureRequest, context: BrowserContext, address: str, db: Database
) -> None:
    page = await context.new_page()
    seen = watched(page)
    await page.goto(f"{address}/admin/mailings/new")
    await page.get_by_role("link", name="Sign in with 127.0.0.1").click()
    await sign_in(page)
    await page.wait_for_url(f"{address}/admin/mailings/new")
    for label, typed in FORM.items():
        await page.get_by_label(label, exact=True).fill(typed)
    await db.run("DELETE FROM user_session")
    await page.get_by_role("button", name="Save draft").click()
    await expect(page.get_by_text("Your session has ended.")).to_be_visible()
    await sign_in_beside(context, page, address)
    if request.node.callspec.id == "no script":
        await page.get_by_role("button", name="I have signed in: back to the form").click()
    for label, typed in FORM.items():
        await expect(page.get_by_label(label, exact=True)).to_have_value(typed, timeout=60_000)
    assert await db.value("SELECT count(*) FROM mailing") == 0
    await page.get_by_role("button", name="Save draft").dblclick()
    await page.wait_for_url(re.compile(r"/admin/mailings/\d+$"))
    assert await db.value("SELECT string_agg(text, '|') FROM mailing") == FORM["Text"]
    assert seen.blocked == []


async def sign_in(page: Page) -> None:
    """Sign in as clara on the provider's page."""
    await page.locator("input[name=sub]").fill("7")
    await page.get_by_role("button", name="Authorize").click()


async def sign_in_beside(context: BrowserContext, page: Page, address: str) -> None:
    async with context.expect_page() as opened:
        await page.get_by_role("link", name="in a new tab").click()
    beside = await opened.value
    await sign_in(beside)
    await beside.wait_for_url(f"{address}/admin/**")
