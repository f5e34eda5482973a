"""A phone's narrow screen: who administers can do it there, in both languages, and no page has a barrier."""

import pytest
from playwright.async_api import Browser, Page, expect

from support.browser import CHROMIUM, WITHOUT, barriers, sign_in, watched
from support.database import Database
from support.users import PASSWORD, made

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason=WITHOUT), pytest.mark.timeout(300)]

expect.set_options(timeout=60_000)

LONG = "a-name-without-a-single-blank-in-it-that-is-longer-than-the-screen"
WORDS = {
    "en": ("Name", "Password", "Sign in", "Create user", "Create key"),
    "ru": ("Имя", "Пароль", "Войти", "Создать пользователя", "Создать ключ"),
}


@pytest.fixture(params=WORDS)
async def page(request: pytest.FixtureRequest, db: Database, chromium: Browser) -> Page:
    await made(db)
    return await chromium.new_page(viewport={"width": 360, "height": 740}, locale=request.param)


async def test_an_admin_signs_in_and_makes_a_user_and_a_key_on_a_phone(address: str, db: Database, page: Page) -> None:
    language = await page.evaluate("navigator.language")
    name, password, _, create_user, create_key = WORDS[language]
    seen = watched(page)
    add = """INSERT INTO report (day, zone, starts, ends, due_at, sent_at, delivered_to)
        VALUES (current_date, 'UTC', current_date, current_date + 1, now(), now(),
            ARRAY['operations-of-the-whole-company@example.org'])"""
    await db.run(add)
    found = []
    await page.goto(f"{address}/admin/account")
    found += await barriers(page)
    await enter(page, address)
    found += await barriers(page)
    await page.goto(f"{address}/admin/users")
    found += await barriers(page)
    await page.get_by_label(name, exact=True).fill(LONG)
    await page.get_by_label(password, exact=True).fill(PASSWORD)
    await page.get_by_role("button", name=create_user, exact=True).click()
    await expect(page.get_by_role("heading", name=LONG)).to_be_visible()
    found += await barriers(page)
    await page.goto(f"{address}/admin/keys")
    await page.get_by_label(name, exact=True).fill(LONG)
    await page.get_by_role("button", name=create_key, exact=True).click()
    await expect(page.locator("code.secret")).to_be_visible()
    found += await barriers(page)
    await db.run("UPDATE user_account SET name = :name WHERE name = 'anna'", name="a" * 64)
    for path in ("users", "keys", "keys/1/revoke", "account", "reports"):
        await page.goto(f"{address}/admin/{path}")
        found += await barriers(page)
    await page.locator("main table a").first.click()
    await expect(page.frame_locator("iframe.mail").get_by_role("heading", level=1)).to_be_visible()
    found += await barriers(page)
    assert found == []
    assert (seen.complaints, seen.blocked) == ([], [])


async def test_a_long_tag_or_file_name_does_not_push_a_table_over_the_edge(
    address: str, db: Database, page: Page
) -> None:
    await db.add_client(tag="a" * 100)
    await db.run(
        "INSERT INTO upload (name, actor, size, status, finished_at) VALUES (:name, 'tests', 9, 'done', now())",
        name="n" * 100,
    )
    await enter(page, address)
    for path in ("clients", "clients/upload"):
        await page.goto(f"{address}/admin/{path}")
        await expect(page.locator("main table")).to_be_visible()
        assert await page.locator("main div.scroll").evaluate("e => e.scrollWidth - e.clientWidth") <= 0, path


async def test_a_figure_of_eight_digits_stays_in_its_card(address: str, db: Database, page: Page) -> None:
    await enter(page, address)
    mailing_id, _ = await db.add_mailing_of(["sent", "pending"])
    cards = page.locator("main .card")
    for path in (f"mailings/{mailing_id}", f"mailings/{mailing_id}/edit"):
        await page.goto(f"{address}/admin/{path}")
        await expect(cards.nth(2)).to_be_visible()
        await cards.locator("dd").evaluate_all(
            "all => all.forEach((each) => { each.textContent = '88\\u00a0888\\u00a0888'; })"
        )
        too_wide = "all => all.filter((each) => each.scrollWidth > each.clientWidth).map((each) => each.innerText)"
        assert await cards.evaluate_all(too_wide) == [], path


async def enter(page: Page, address: str) -> None:
    await page.goto(f"{address}/admin/account")
    await sign_in(page, labels=WORDS[await page.evaluate("navigator.language")][:3])
    await expect(page.get_by_role("heading", name="anna")).to_be_visible()
