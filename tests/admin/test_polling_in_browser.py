"""The pages that follow what happens, in a real browser under their strict policy."""

import asyncio

import pytest
from playwright.async_api import Browser, Page, Route, expect

from support.browser import CHROMIUM, WITHOUT, barriers, signed_in_page, watched
from support.database import Database

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason=WITHOUT)]

expect.set_options(timeout=30_000)


@pytest.fixture
async def page(address: str, db: Database, chromium: Browser) -> Page:
    return await signed_in_page(chromium, address, db)


async def test_a_mailings_page_follows_it_to_its_end_and_rests(address: str, db: Database, page: Page) -> None:
    seen = watched(page)
    mailing_id, (first, second) = await db.add_mailing_of(["sending", "sending"])
    await page.goto(f"{address}/admin/mailings/{mailing_id}")
    send = "UPDATE message SET status = 'sent', lease_until = NULL, finished_at = now() WHERE id = :id"
    await db.run(send, id=first)
    await expect(page.locator("#live")).to_contain_text("sent 1")
    await expect(page.locator("#said")).to_contain_text("50\xa0% done")
    await page.locator("summary").click()
    await db.run(send, id=second)
    await expect(page.locator("#live")).to_contain_text("sent 2")
    await expect(page.locator("details")).to_have_attribute("open", "")
    await db.run("UPDATE mailing SET status = 'finished', finished_at = now()")
    await expect(page.locator("#live:not([hx-get])")).to_contain_text("finished")
    assert (seen.complaints, seen.blocked) == ([], [])


async def test_a_lost_connection_is_told_and_found_again(address: str, db: Database, page: Page) -> None:
    mailing_id, _ = await db.add_mailing_of(["pending"])
    await page.goto(f"{address}/admin/mailings/{mailing_id}")
    await page.context.set_offline(offline=True)
    await expect(page.locator("#lost")).to_be_visible()
    await db.run("UPDATE mailing SET status = 'paused'")
    await page.context.set_offline(offline=False)
    await expect(page.locator("#lost")).to_be_hidden()
    await expect(page.locator("#live")).to_contain_text("the mailing is paused")


@pytest.mark.parametrize("status", [503, 404])
async def test_a_poll_that_is_refused_is_told_until_one_succeeds(
    address: str, db: Database, page: Page, status: int
) -> None:
    """As while the API runs and its database is down: what is shown is of before."""
    mailing_id, _ = await db.add_mailing_of(["pending"])

    async def refuse(route: Route) -> None:
        await route.fulfill(status=status)

    await page.route("**/live?*", refuse)
    await page.goto(f"{address}/admin/mailings/{mailing_id}")
    await expect(page.locator("#lost")).to_be_visible()
    await page.unroute("**/live?*", refuse)
    await expect(page.locator("#lost")).to_be_hidden()


async def test_the_page_of_a_mailing_that_is_deleted_says_so(address: str, db: Database, page: Page) -> None:
    seen = watched(page)
    mailing_id, _ = await db.add_mailing_of(["pending"])
    await page.goto(f"{address}/admin/mailings/{mailing_id}")
    await page.get_by_role("link", name="Messages", exact=True).focus()
    await db.run("UPDATE mailing SET status = 'cancelled', deleted_at = now()")
    await expect(page.locator("main")).to_contain_text(f"There is no mailing {mailing_id}")
    await expect(page.locator("main")).to_be_focused()
    await expect(page.locator("#lost, #live, .actions")).to_have_count(0)
    assert [each for each in seen.complaints if "404" not in each] == []


async def test_a_poll_that_is_never_answered_is_told(address: str, db: Database, page: Page) -> None:
    mailing_id, _ = await db.add_mailing_of(["pending"])

    async def say_nothing(_: Route) -> None:
        pass

    await page.route("**/live?*", say_nothing)
    await page.goto(f"{address}/admin/mailings/{mailing_id}")
    assert await page.evaluate("htmx.config.timeout") == 15_000
    await page.evaluate("htmx.config.timeout = 100")
    await expect(page.locator("#lost")).to_be_visible()


async def test_a_page_that_renews_itself_takes_no_click_back(address: str, db: Database, page: Page) -> None:
    """When its mailing finishes, what can be done changes: here while the clicked page has yet to answer."""
    mailing_id, _ = await db.add_mailing_of(["pending"])
    here, renewed = f"{address}/admin/mailings/{mailing_id}", asyncio.Event()

    async def answer_late(route: Route) -> None:
        await db.run("UPDATE mailing SET status = 'finished', finished_at = now()")
        await renewed.wait()
        await route.continue_()

    await page.goto(here)
    page.on("requestfinished", lambda request: renewed.set() if request.url == here else None)
    await page.route("**/messages", answer_late)
    await page.get_by_role("link", name="Messages", exact=True).click()
    await expect(page.get_by_role("heading", name="Messages")).to_be_visible()


async def test_a_finished_mailing_offers_what_can_still_be_done(address: str, db: Database, page: Page) -> None:
    mailing_id = await db.add_mailing()
    await page.goto(f"{address}/admin/mailings/{mailing_id}")
    await page.get_by_role("link", name="Duplicate", exact=True).focus()
    await db.run("UPDATE mailing SET status = 'finished', finished_at = now()")
    await expect(page.get_by_role("link", name="Pause", exact=True)).to_have_count(0)
    await expect(page.locator("#live:not([hx-get])")).to_contain_text("finished")
    await expect(page.get_by_role("link", name="Duplicate", exact=True)).to_be_focused()
    assert await page.locator("main").count() == 1


async def test_no_page_has_a_barrier_in_the_light_or_in_the_dark(address: str, db: Database, page: Page) -> None:
    """As far as axe finds them: contrast, labels, order of headings, names of links and charts."""
    mailing_id, client_id = await db.add_mailing(), await db.add_client()
    unknown, *_ = await db.add_messages(mailing_id, ["unknown", "pending", "sent"], first_client=client_id)
    await db.run("INSERT INTO mailing_throughput SELECT id, date_trunc('minute', now()), 5 FROM mailing")
    await db.add_attempt(unknown, "ambiguous")
    found = []
    ours = ("", f"mailings/{mailing_id}", f"mailings/{mailing_id}/messages", f"messages/{unknown}", "statistics")
    for path in (*ours, "gateway", "gateway/stop"):
        await page.goto(f"{address}/admin/{path}")
        await page.emulate_media(color_scheme="light")
        found += await barriers(page)
        await page.emulate_media(color_scheme="dark")
        found += await barriers(page)
    assert found == []
