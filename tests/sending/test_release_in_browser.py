"""An editor writes, a sender reads and releases: in a real browser, with a real worker and a real gateway."""

from datetime import UTC, datetime, timedelta

import pytest
from playwright.async_api import Browser, expect

from mailing.access.roles import Role
from support.browser import CHROMIUM, WITHOUT, Visitor
from support.campaign import Campaign
from support.database import Database
from support.users import made

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason=WITHOUT), pytest.mark.timeout(300)]

SIZES = ((1280, 900), (390, 844))
LANGUAGES = {"en": "English", "ru": "Русский"}


class Person(Visitor):
    """Looks at a page in both languages, on desk and phone."""

    async def look(self, path: str, *, called: str) -> None:
        """End in English, at a desk's screen size."""
        await self.page.goto(f"{self.address}/{path}")
        for language in ("ru", "en"):
            await self.page.get_by_role("button", name=LANGUAGES[language]).click()
            await expect(self.page.locator(f"html[lang={language}]")).to_be_attached()
            await self.page.wait_for_load_state()
            for width, height in reversed(SIZES):
                await self.page.set_viewport_size({"width": width, "height": height})
                await self.examine(f"{called}-{self.name}-{language}-{width}")


@pytest.fixture
async def people(address: str, db: Database, chromium: Browser) -> tuple[Person, Person]:
    """Sign in an editor and a sender."""
    found = []
    for name, role in (("edith", Role.EDITOR), ("sam", Role.SENDER)):
        await made(db, name, role)
        context = await chromium.new_context(viewport={"width": 1280, "height": 900}, locale="en-GB")
        person = Person(await context.new_page(), address, name)
        await person.sign_in("account")
        found.append(person)
    return found[0], found[1]


async def test_an_editor_writes_and_a_sender_reads_and_releases(
    people: tuple[Person, Person], campaign: Campaign
) -> None:
    editor, sender = people
    await campaign.clients(40, tag="vip")
    await campaign.clients(20, tag="new", timezone="Asia/Omsk")
    await campaign.mailing(text="The weekly news: what opens, what closes, what is new in your town", starts_in_s=600)
    mailing = await written(editor, "Winter sale \u2013 20 % off until Sunday. Доставка бесплатно!")
    await editor.look(f"mailings/{mailing}", called="draft")
    await editor.look("mailings", called="list")
    await editor.look("mailings/new", called="form")
    await sender.look(f"mailings/{mailing}", called="draft")
    await sender.look("mailings", called="list")
    await sender.look("", called="start")
    await sender.look(f"mailings/{mailing}/release", called="release")
    async with campaign.working():
        await refused_and_released(editor, sender, mailing)
        assert await campaign.finished(mailing) == {"planned": 60, "sent": 60}
    assert {item["text"] for item in await campaign.sandbox.ledger()} == {"Winter sale - 10 % off"}
    await withdrawn(editor, sender)
    assert (editor.seen.complaints, editor.seen.blocked, sender.seen.blocked) == ([], [], [])
    [refused] = sender.seen.complaints
    assert "409" in refused


async def written(editor: Person, text: str) -> int:
    """Its start has passed already: an editor can't begin it by that."""
    now = datetime.now(UTC)
    await editor.write_mailing(text, start=now - timedelta(hours=1), end=now + timedelta(days=1))
    mailing = await editor.save_mailing("Save draft")
    await expect(editor.page.get_by_text("Nothing is sent before a sender releases it.")).to_be_visible()
    await expect(editor.page.get_by_role("link", name="Release", exact=True)).to_have_count(0)
    return mailing


async def refused_and_released(editor: Person, sender: Person, mailing: int) -> None:
    """While the sender reads, the editor changes the words: these are not released before they were read, too."""
    await sender.page.goto(f"{sender.address}/mailings/{mailing}")
    await sender.page.get_by_role("link", name="Release", exact=True).click()
    await expect(sender.page.get_by_role("button", name="Release and send now", exact=True)).to_be_visible()
    await editor.page.goto(f"{editor.address}/mailings/{mailing}/edit")
    await editor.page.get_by_label("Text").fill("Winter sale - 10 % off")
    await editor.press("Save changes")
    await expect(editor.page.get_by_text("The draft was saved.")).to_be_visible()
    await sender.press("Release and send now")
    await expect(sender.page.get_by_text("was changed after you read it")).to_be_visible()
    await expect(sender.page.locator("blockquote").get_by_text("Winter sale - 10 % off")).to_be_visible()
    await sender.press("Release and send now")
    await expect(sender.page.get_by_text("Released. Sending starts.")).to_be_visible()


async def withdrawn(editor: Person, sender: Person) -> None:
    """Schedule and release the weekly news."""
    await editor.look("mailings/1/edit", called="withdrawing")
    await editor.page.get_by_label("Text").fill("The weekly news: what opens, and what closes in your town")
    await editor.press("Save changes")
    await expect(editor.page.get_by_text("The draft was saved.")).to_be_visible()
    await editor.look("mailings/1", called="withdrawn")
    await sender.look("mailings/1", called="withdrawn")
    await sender.look("mailings/1/release", called="changes")
    await sender.press("Release")
    await expect(sender.page.get_by_text("Released.")).to_be_visible()
    await sender.look("mailings/1", called="released")
