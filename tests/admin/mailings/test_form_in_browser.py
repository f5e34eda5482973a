"""The form of a mailing and the plan beside it, in a real browser."""

import pytest
from playwright.async_api import Browser, Page, Route, expect

from support.browser import CHROMIUM, WITHOUT, signed_in_page
from support.database import Database

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason=WITHOUT)]

expect.set_options(timeout=30_000)


@pytest.fixture
async def page(address: str, db: Database, chromium: Browser) -> Page:
    """The form of a new mailing, whose text is entered, beside its plan."""
    await db.add_client(tag="vip")
    page = await signed_in_page(chromium, address, db)
    await page.goto(f"{address}/admin/mailings/new")
    await page.get_by_label("Text").fill("Hello")
    await expect(page.locator("#plan")).to_contain_text("1 SMS for each recipient")
    return page


async def test_the_enter_key_in_a_field_shows_the_plan_and_sends_nothing(db: Database, page: Page) -> None:
    """Without a button of its own it would press the form's first one: a search, or what creates the mailing."""
    await page.get_by_label("Time zone of these times").press("Enter")
    await page.wait_for_url("**/admin/mailings/plan")
    await expect(page.get_by_label("Text")).to_have_value("Hello")
    await expect(page.locator("#plan")).to_contain_text("1 SMS for each recipient")
    assert await db.value("SELECT count(*) FROM mailing") == 0


async def test_a_plan_of_an_earlier_text_is_marked_until_the_next_one_is_there(page: Page) -> None:
    async def refuse(route: Route) -> None:
        await route.fulfill(status=503)

    await expect(page.locator("#plan")).to_have_attribute("aria-busy", "false")
    await page.get_by_text("Hours as a table").click()
    await page.route("**/plan", refuse)
    await page.get_by_label("Text").fill("Hello, World")
    await expect(page.get_by_text("This plan is of an earlier input")).to_be_visible()
    await expect(page.locator("#plan")).to_have_attribute("aria-busy", "true")
    await page.unroute("**/plan", refuse)
    await page.get_by_label("Text").fill("Hello, World!")
    await expect(page.locator("#plan")).to_contain_text("13 characters")
    await expect(page.get_by_text("This plan is of an earlier input")).to_be_hidden()
    await expect(page.locator("#plan")).to_have_attribute("aria-busy", "false")
    await expect(page.locator("#plan details[open]")).to_have_count(1)


@pytest.fixture
async def many_tags(db: Database, page: Page) -> None:
    """Add so many that the form has a search for them."""
    await db.run("""INSERT INTO client (phone, operator_code, tag, timezone)
        SELECT 79160000000 + n, '916', 'tag ' || n, 'UTC' FROM generate_series(1, 40) n""")
    await page.reload()


@pytest.mark.usefixtures("many_tags")
async def test_what_is_chosen_while_a_search_is_on_its_way_stays_chosen(page: Page) -> None:
    async def say_nothing(_: Route) -> None:
        pass

    await page.route("**/choices*", say_nothing)
    async with page.expect_request("**/choices*"):
        await page.get_by_label("Find a tag").fill("vip")
    await page.get_by_label("tag 1", exact=True).check()
    await expect(page.get_by_text("The search failed")).to_be_visible()


@pytest.mark.usefixtures("many_tags")
async def test_a_search_after_the_session_ended_keeps_what_is_chosen(db: Database, page: Page) -> None:
    """A form without its tags would select every client."""
    await page.get_by_label("tag 1", exact=True).check()
    await db.run("DELETE FROM user_session")
    await page.get_by_label("Find a tag").fill("vip")
    await expect(page.get_by_text("The search failed")).to_be_visible()
    await expect(page.get_by_label("tag 1", exact=True)).to_be_checked()
