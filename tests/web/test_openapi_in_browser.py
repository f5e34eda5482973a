"""Both pages in a real browser under their strict policy: they render, search and call; no request leaves the host."""

from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, Page, expect

from mailing.settings import Settings
from support.browser import CHROMIUM, WITHOUT, watched

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason=WITHOUT)]

LOGO = "https://cdn.redoc.ly/redoc/logo-mini.svg"
expect.set_options(timeout=30_000)


@pytest.fixture
async def page(chromium: Browser) -> Page:
    return await chromium.new_page(viewport={"width": 1400, "height": 1000})


async def authorize(page: Page, key: str) -> None:
    await page.locator(".authorize.unlocked").first.click()
    await page.locator(".auth-container input").fill(key)
    await page.locator(".auth-container .authorize").click()
    await page.locator(".auth-container .btn-done").click()


async def test_swagger_runs_its_own_examples_and_remembers_the_key_when_the_page_is_loaded_again(
    address: str, settings: Settings, page: Page
) -> None:
    seen = watched(page)
    await page.goto(f"{address}/docs/")
    await authorize(page, str(settings.api_key))
    for operation in ("#operations-clients-create_client", "#operations-mailings-create_mailing"):
        await page.locator(f"{operation} .opblock-summary-control").click()
        await page.locator(f"{operation} .execute").click()
        answered = page.locator(f"{operation} .live-responses-table tbody .response-col_status")
        await expect(answered.first).to_contain_text("201")
    await page.goto(f"{address}/docs/")
    await expect(page.locator(".authorize.locked").first).to_be_visible()
    assert (seen.complaints, seen.blocked) == ([], [])
    assert seen.asked == {urlsplit(address).netloc}


async def test_redoc_shows_and_finds_an_operation_and_its_logo_is_never_fetched(address: str, page: Page) -> None:
    seen = watched(page)
    await page.goto(f"{address}/docs/redoc")
    await expect(page.get_by_role("heading", name="Create a mailing")).to_be_visible()
    await page.locator("input").first.press_sequentially("CSV")
    await expect(page.locator('[data-role="search:results"]')).to_contain_text("Import")
    assert seen.blocked == [LOGO]
    assert [complaint for complaint in seen.complaints if LOGO not in complaint] == []
    assert seen.asked == {urlsplit(address).netloc}


async def test_a_page_that_asks_a_foreign_host_would_be_noticed(address: str, page: Page) -> None:
    """The policy stops what a script of the page tries, and this test's eyes see it."""
    seen = watched(page)
    await page.goto(f"{address}/docs/")
    async with page.expect_event("requestfailed"):
        await page.evaluate("void (new Image().src = 'http://foreign.invalid/x')")
    assert seen.blocked == ["http://foreign.invalid/x"]
    assert any("foreign.invalid" in complaint for complaint in seen.complaints)
