"""Debian's chromium, driven by playwright: what a page asks for, complains about and shows.

The same engine without windows starts, and opens a page, in half the processor time.
"""

import os
import re
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, ConsoleMessage, Page, Request, async_playwright

from mailing.access.roles import Role
from support.database import Database
from support.users import PASSWORD, made, signed_in

PROGRAMS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, PROGRAMS)), None)
FLAGS = ("--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--renderer-process-limit=1")
SHOTS = os.environ.get("MAILING_TEST_SHOTS")  # a directory: every page examined is kept there as a picture
WITHOUT = "no chromium is on PATH, so no page was rendered"


@dataclass
class Seen:
    """`asked` are the hosts of all requests; `blocked` were stopped by the page's policy."""

    asked: set[str] = field(default_factory=set)
    blocked: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def request(self, request: Request) -> None:
        url = urlsplit(request.url)
        if url.scheme not in {"data", "blob"}:
            self.asked.add(url.netloc)

    def failure(self, request: Request) -> None:
        if request.failure == "csp":
            self.asked.discard(urlsplit(request.url).netloc)
            self.blocked.append(request.url)

    def console(self, message: ConsoleMessage) -> None:
        """Keep each error as a complaint, but neither of the two that htmx logs when hx-sync replaces a request."""
        if message.text.startswith("htmx:sendAbort,"):
            self.complaints.remove(message.text.replace("sendAbort", "afterRequest"))
        elif message.type == "error":
            self.complaints.append(message.text)


def watched(page: Page) -> Seen:
    seen = Seen()
    page.on("request", seen.request)
    page.on("requestfailed", seen.failure)
    page.on("console", seen.console)
    page.on("pageerror", lambda error: seen.complaints.append(str(error)))
    return seen


async def barriers(page: Page) -> list[str]:
    """Return what axe finds, and whether the page scrolls sideways.

    Axe is loaded once into a page, and tells only what is wrong: `Axe.run` takes three times as long.
    """
    if not await page.evaluate("'axe' in window"):
        await page.evaluate(Axe().axe_script)
    found = await page.evaluate("axe.run({resultTypes: ['violations']}).then(({violations}) => violations)")
    wide = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    too_wide = [f"{page.url} is {wide} pixels wider than the screen"] if wide > 0 else []
    return too_wide + [f"{page.url}: {each['id']}: {each['nodes'][0]['html'][:150]}" for each in found]


async def signed_in_page(chromium: Browser, address: str, db: Database, role: Role = Role.ADMIN) -> Page:
    token = await signed_in(db, await made(db, role=role))
    page = await chromium.new_page(locale="en")
    await page.context.add_cookies([{"name": "mailing_session", "value": token, "url": address}])
    return page


async def sign_in(page: Page, name: str = "anna", *, labels: Sequence[str] = ("Name", "Password", "Sign in")) -> None:
    """Fill in the form that the page shows, and send it. `labels` are those of its fields and of its button."""
    for label, typed in zip(labels, (name, PASSWORD), strict=False):
        await page.get_by_label(label).fill(typed)
    await page.get_by_role("button", name=labels[-1], exact=True).click()


class Visitor:
    """A user at a browser. `address` is the admin page's. Every page that is examined must be accessible."""

    def __init__(self, page: Page, address: str, name: str) -> None:
        self.page, self.address, self.name = page, f"{address}/admin", name
        self.seen = watched(page)

    async def sign_in(self, path: str) -> None:
        await self.page.goto(f"{self.address}/{path}")
        await self.examine(f"sign-in-{self.name}")
        await sign_in(self.page, self.name)
        await self.page.wait_for_url(f"{self.address}/{path}")

    async def write_mailing(
        self, text: str, *, end: datetime, start: datetime | None = None, hours: tuple[str, str] = ("", "")
    ) -> None:
        """Fill in its form. Without a start it begins at once."""
        await self.page.goto(f"{self.address}/mailings/new")
        times = {"Start": f"{start:%Y-%m-%dT%H:%M}" if start else "", "End": f"{end:%Y-%m-%dT%H:%M}"}
        typed = {"Text": text, "Time zone of these times": "UTC", **times, "From": hours[0], "Until": hours[1]}
        for label, value in typed.items():
            await self.page.get_by_label(label).fill(value)

    async def save_mailing(self, button: str) -> int:
        await self.press(button)
        await self.page.wait_for_url(re.compile(r"/admin/mailings/\d+$"))
        return int(self.page.url.rpartition("/")[2])

    async def press(self, name: str) -> None:
        await self.page.locator("main").get_by_role("button", name=name, exact=True).click()

    async def examine(self, called: str) -> None:
        found = await barriers(self.page)
        assert not found, f"{called}: {found}"
        if SHOTS:
            await self.page.screenshot(path=Path(SHOTS) / f"{called}.png", full_page=True)


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Start a browser with an empty profile."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        await browser.close()
