"""Both pages in a real browser under their strict policy: they render, search and call; no request leaves the host."""

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import uvicorn

from browser import CHROMIUM, Tab, tab
from mailing.app import create_app
from mailing.settings import Settings

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not on PATH, so the pages were not rendered")

LOGO = "https://cdn.redoc.ly/redoc/logo-mini.svg"
SHOWN = "document.body.innerText.includes('Create a mailing')"


@pytest.fixture
async def address(settings: Settings) -> AsyncIterator[str]:
    server = uvicorn.Server(uvicorn.Config(create_app(settings), lifespan="on", log_config=None))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        await serving


@pytest.fixture
async def browser_tab(tmp_path: Path) -> AsyncIterator[Tab]:
    async with tab(tmp_path / "profile") as opened:
        yield opened


def hosts(opened: Tab) -> set[str]:
    urls = (urlsplit(url) for url in opened.requests.values())
    return {url.netloc for url in urls if url.scheme not in {"data", "blob"}}


async def authorize(browser_tab: Tab, key: str) -> None:
    await browser_tab.click(".authorize.unlocked")
    await browser_tab.until("!!document.querySelector('.auth-container input')")
    await browser_tab.evaluate("document.querySelector('.auth-container input').focus()")
    await browser_tab.call("Input.insertText", text=key)
    await browser_tab.click(".auth-container .authorize")
    await browser_tab.click(".auth-container .btn-done")


async def test_swagger_runs_its_own_examples(address: str, settings: Settings, browser_tab: Tab) -> None:
    await browser_tab.open(f"{address}/docs/")
    await browser_tab.until(SHOWN)
    await authorize(browser_tab, str(settings.api_key))
    for operation in ("#operations-clients-create_client", "#operations-mailings-create_mailing"):
        await browser_tab.click(f"{operation} .opblock-summary-control")
        await browser_tab.until(f"document.querySelector('{operation} textarea')?.value.includes('{{')")
        await browser_tab.click(f"{operation} .execute")
        answered = f"document.querySelector('{operation} .live-responses-table tbody .response-col_status')"
        await browser_tab.until(f"!!{answered}?.innerText.match(/\\d/)")
        assert str(await browser_tab.evaluate(f"{answered}.innerText")).split()[0] == "201"
    assert (browser_tab.complaints, browser_tab.blocked) == ([], [])
    assert hosts(browser_tab) == {urlsplit(address).netloc}


async def test_swagger_remembers_the_key_when_the_page_is_loaded_again(address: str, browser_tab: Tab) -> None:
    await browser_tab.open(f"{address}/docs/")
    await authorize(browser_tab, "any key")
    await browser_tab.open(f"{address}/docs/")
    await browser_tab.until("!!document.querySelector('.authorize.locked')")
    assert browser_tab.complaints == []


async def test_redoc_shows_and_finds_an_operation_and_its_logo_is_never_fetched(address: str, browser_tab: Tab) -> None:
    await browser_tab.open(f"{address}/docs/redoc")
    await browser_tab.until(SHOWN)
    await browser_tab.evaluate("document.querySelector('input').focus()")
    await browser_tab.call("Input.insertText", text="CSV")
    await browser_tab.until("!!document.querySelector('[data-role=\"search:results\"]')?.innerText.includes('Import')")
    assert browser_tab.blocked == [LOGO]
    assert [complaint for complaint in browser_tab.complaints if LOGO not in complaint] == []
    assert hosts(browser_tab) == {urlsplit(address).netloc}


async def test_a_page_that_asks_a_foreign_host_would_be_noticed(address: str, browser_tab: Tab) -> None:
    """The policy stops what a script of the page tries, and this test's eyes see it."""
    await browser_tab.open(f"{address}/docs/")
    await browser_tab.until(SHOWN)
    await browser_tab.evaluate("void (new Image().src = 'http://foreign.invalid/x')")
    async with asyncio.timeout(10):
        while not browser_tab.blocked:
            await browser_tab.text()
    assert browser_tab.blocked == ["http://foreign.invalid/x"]
    assert any("foreign.invalid" in complaint for complaint in browser_tab.complaints)
