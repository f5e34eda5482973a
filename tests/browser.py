"""Headless chromium, spoken to by its DevTools protocol: what a page asks for, complains about and shows."""

import asyncio
import json
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ("--headless", "--no-sandbox", "--disable-dev-shm-usage", "--remote-debugging-port=0")
WIDE = "--window-size=1400,1000"  # on a narrow screen Redoc hides its menu and its search


class Tab:
    """`requests` went out, `blocked` ones were stopped by the page's policy; `complaints` are its console's errors."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.requests: dict[str, str] = {}
        self.blocked: list[str] = []
        self.complaints: list[str] = []
        self._socket = socket
        self._calls = 0
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}

    async def open(self, url: str) -> None:
        await self.call("Page.navigate", url=url)

    async def evaluate(self, expression: str) -> Any:  # noqa: ANN401 - whatever JavaScript answers
        answer = await self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        return answer["result"].get("value")

    async def text(self) -> str:
        return str(await self.evaluate("document.body.innerText"))

    async def until(self, condition: str, within: float = 30) -> None:
        """Waits for a JavaScript condition; says what the page shows when it doesn't come."""
        deadline = asyncio.get_running_loop().time() + within
        while not await self.evaluate(condition):
            shown = (await self.text())[:300]
            assert asyncio.get_running_loop().time() < deadline, f"{condition} never held: {shown} {self.complaints}"
            await asyncio.sleep(0.05)

    async def click(self, selector: str) -> None:
        found = f"document.querySelector({json.dumps(selector)})"
        await self.until(f"!!{found}")
        await self.evaluate(f"{found}.click()")

    async def call(self, method: str, **params: object) -> dict[str, Any]:
        self._calls += 1
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._answers[self._calls] = answer
        await self._socket.send_json({"id": self._calls, "method": method, "params": params})
        return await answer

    async def listen(self) -> None:
        async for message in self._socket:
            event = json.loads(message.data)
            if "id" in event:
                self._answers.pop(event["id"]).set_result(event.get("result", {}))
            else:
                self._note(event["method"], event["params"])

    def _note(self, method: str, params: dict[str, Any]) -> None:
        match method:
            case "Network.requestWillBeSent":
                self.requests[params["requestId"]] = params["request"]["url"]
            case "Network.loadingFailed" if params.get("blockedReason") == "csp":
                self.blocked.append(self.requests.pop(params["requestId"]))
            case "Log.entryAdded":
                self.complaints.append(params["entry"]["text"])
            case "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(params["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if params["type"] == "error":
                self.complaints.append(json.dumps(params["args"]))


@asynccontextmanager
async def tab(profile: Path) -> AsyncIterator[Tab]:
    """One tab of a browser of its own, with an empty profile."""
    process = await asyncio.create_subprocess_exec(
        str(CHROMIUM), *FLAGS, WIDE, f"--user-data-dir={profile}", "about:blank", stderr=asyncio.subprocess.PIPE
    )
    try:
        async with (
            aiohttp.ClientSession() as http,
            http.ws_connect(await _address(process, http), max_msg_size=0) as ws,
        ):
            opened = Tab(ws)
            listening = asyncio.create_task(opened.listen())
            for domain in ("Page", "Network", "Log", "Runtime"):
                await opened.call(f"{domain}.enable")
            yield opened
            listening.cancel()
    finally:
        process.terminate()
        await process.communicate()


async def _address(process: asyncio.subprocess.Process, http: aiohttp.ClientSession) -> str:
    assert process.stderr
    async for line in process.stderr:
        if found := re.search(rb"DevTools listening on ws://([^/]+)/", line):
            async with http.get(f"http://{found[1].decode()}/json/list") as answer:
                targets = await answer.json()
            return str(next(target["webSocketDebuggerUrl"] for target in targets if target["type"] == "page"))
    raise AssertionError("chromium ended before it listened")
