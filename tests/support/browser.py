"""Debian's chromium, driven by playwright: what a page asks for, complains about and shows."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from playwright.async_api import Browser, ConsoleMessage, Page, Request, async_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ("--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu")
WITHOUT = "chromium is not on PATH, so no page was rendered"


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
        if message.type == "error":
            self.complaints.append(message.text)


def watched(page: Page) -> Seen:
    seen = Seen()
    page.on("request", seen.request)
    page.on("requestfailed", seen.failure)
    page.on("console", seen.console)
    page.on("pageerror", lambda error: seen.complaints.append(str(error)))
    return seen


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Start a browser with an empty profile."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        await browser.close()
