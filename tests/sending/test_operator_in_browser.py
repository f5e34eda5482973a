"""An operator's whole campaign in a real browser, with a real worker and a real gateway."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, Page, expect

from support.browser import CHROMIUM, WITHOUT, Visitor
from support.campaign import Campaign
from support.database import Database
from support.users import made

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason=WITHOUT), pytest.mark.timeout(300)]

expect.set_options(timeout=60_000)


class Operator(Visitor):
    shots = 0

    async def follow(self, name: str) -> None:
        link = self.page.get_by_role("link", name=name, exact=True).first
        there = await link.get_attribute("href")
        await link.click()
        await self.page.wait_for_url(f"**{there}")

    async def look(self, name: str) -> None:
        self.shots += 1
        await self.examine(f"{self.shots:02}-{name}")


@pytest.fixture
async def page(chromium: Browser) -> Page:
    return await chromium.new_page(viewport={"width": 1280, "height": 900}, locale="en-GB")


@pytest.fixture
async def anna(page: Page, address: str, db: Database) -> Operator:
    await made(db)
    return Operator(page, address, "anna")


async def test_an_operator_runs_a_campaign(anna: Operator, campaign: Campaign, tmp_path: Path) -> None:
    await anna.sign_in("clients")
    await expect(anna.page.get_by_role("heading", name="Clients")).to_be_visible()
    async with campaign.working():
        await upload(anna, people(tmp_path / "people.csv"))
        await campaign.sandbox.behave(latency_s=4.0)  # so that it lasts
        first = await create(anna, "Anna says hello", in_a_window=True)
        await expect(anna.page.get_by_role("link", name="Pause", exact=True)).to_be_visible()
        await anna.look("running")
        await pause_and_resume(anna)
        await campaign.sandbox.behave()
        await finished(anna)
        await anna.look("finished")
        assert await campaign.counts(first) == {"planned": 993, "sent": 993}

        await campaign.sandbox.behave(refuse_400=1.0)
        second = await create(anna, "This one is refused")
        await finished(anna)
        await read_a_story(anna, second)

        third = await create(anna, "This one is taken back", hours_ahead=3)
        await anna.follow("Cancel the mailing")
        await anna.look("cancel")
        await anna.press("Cancel the mailing")
        await expect(anna.page.locator("main").get_by_text("cancelled").first).to_be_visible()
        assert (await campaign.statistics(third))["status"] == "cancelled"
    await tour(anna)
    await switch_language(anna)
    await anna.page.get_by_role("button", name="Выйти", exact=True).click()
    await expect(anna.page.get_by_role("heading", name="Вход")).to_be_visible()
    await anna.page.goto(f"{anna.address}/clients")
    await expect(anna.page.get_by_role("heading", name="Вход")).to_be_visible()
    assert_clean(anna)


def people(path: Path) -> Path:
    """1,000 rows, 7 of them bad."""
    good = [f"7916{n:07},916,{'vip' if n % 3 else ''},{ZONES[n % 3]}" for n in range(993)]
    bad = ["8916,916,,UTC", "79160000000000,916,,UTC", "7916x,916,,UTC", ",916,,UTC"]
    bad += ["79170000001,91,,UTC", "79170000002,917,,Mars/Olympus", "79170000003,917,,"]
    path.write_text("\n".join(["phone,operator_code,tag,timezone", *good[:500], *bad, *good[500:]]) + "\n")
    return path


ZONES = ("Europe/Moscow", "Asia/Omsk", "Asia/Vladivostok")


async def upload(anna: Operator, file: Path) -> None:
    await anna.look("clients-empty")
    await anna.page.goto(f"{anna.address}/clients/upload")
    await anna.page.get_by_label("CSV file").set_input_files(file)
    await anna.look("upload")
    await anna.press("Upload and check")
    await expect(anna.page.get_by_text("The first 20 rows of the file")).to_be_visible()
    await anna.look("upload-preview")
    await anna.page.locator("main form button").first.click()
    rejected_rows = anna.page.get_by_role("link", name=re.compile("CSV"))
    await expect(rejected_rows.first).to_be_visible()
    await expect(anna.page.get_by_text("993").first).to_be_visible()
    await anna.look("upload-result")
    async with anna.page.expect_download() as download:
        await rejected_rows.first.click()
    rows = (await (await download.value).path()).read_text().splitlines()
    assert len({row.split(",")[0] for row in rows[1:]}) == 7


async def create(anna: Operator, text: str, *, in_a_window: bool = False, hours_ahead: int = 0) -> int:
    now = datetime.now(UTC)
    start = now + timedelta(hours=hours_ahead) if hours_ahead else None
    hours = ("00:00", "23:59") if in_a_window else ("", "")  # open for all but the minute before midnight
    await anna.write_mailing(text, start=start, end=now + timedelta(days=2), hours=hours)
    await expect(anna.page.locator("#plan").get_by_text("993").first).to_be_visible()
    await anna.look("new-mailing")
    return await anna.save_mailing("Create the mailing")


async def pause_and_resume(anna: Operator) -> None:
    await anna.follow("Pause")
    await anna.look("pause")
    await anna.press("Pause")
    await expect(anna.page.get_by_role("link", name="Resume", exact=True)).to_be_visible()
    await anna.look("paused")
    await anna.follow("Resume")
    await anna.press("Resume")
    await expect(anna.page.get_by_role("link", name="Pause", exact=True)).to_be_visible()


async def finished(anna: Operator) -> None:
    """The whole page follows: its actions, too."""
    await expect(anna.page.locator("main").get_by_text("finished").first).to_be_visible()
    await expect(anna.page.get_by_role("link", name="Pause", exact=True)).to_have_count(0)


async def read_a_story(anna: Operator, mailing: int) -> None:
    await anna.page.goto(f"{anna.address}/mailings/{mailing}/messages")
    await expect(anna.page.locator("main table").get_by_text("failed").first).to_be_visible()
    await anna.look("messages")
    await anna.page.locator("main table a").first.click()
    await anna.page.wait_for_url(re.compile(r"/admin/messages/\d+$"))
    await expect(anna.page.get_by_text("400").first).to_be_visible()
    await anna.look("message")


async def tour(anna: Operator) -> None:
    for path in ("", "clients", "mailings", "statistics", "gateway", "gateway/stop", "users", "keys", "account"):
        answer = await anna.page.goto(f"{anna.address}/{path}")
        assert answer
        assert answer.status == 200
        await anna.look(path.replace("/", "-") or "start")


async def switch_language(anna: Operator) -> None:
    await anna.page.goto(f"{anna.address}/mailings")
    await anna.page.get_by_role("button", name="Русский").click()
    await expect(anna.page.get_by_role("heading", name="Рассылки")).to_be_visible()
    await anna.page.set_viewport_size({"width": 390, "height": 844})
    await anna.page.emulate_media(color_scheme="dark")
    for path in ("", "clients", "mailings", "mailings/1", "mailings/new", "statistics", "gateway", "account"):
        await anna.page.goto(f"{anna.address}/{path}")
        await anna.look(f"ru-{path.replace('/', '-') or 'start'}")


def assert_clean(anna: Operator) -> None:
    assert (anna.seen.complaints, anna.seen.blocked) == ([], [])
    assert anna.seen.asked == {urlsplit(anna.address).netloc}
