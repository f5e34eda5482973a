"""Takes a provider's receipts and replies on a socket of this process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from mailing.gateway.providers.receipt import ReceiptRequest


class Receiver:
    """Answers with the statuses it was given, then 200. `taken` has path and request of those it answered 200."""

    def __init__(self) -> None:
        self.url = ""
        self.statuses: list[int] = []
        self.taken: list[tuple[str, ReceiptRequest]] = []
        self._arrived = asyncio.Condition()

    async def take(self, request: web.Request) -> web.Response:
        status = self.statuses.pop(0) if self.statuses else 200
        if status == 200:
            taken = ReceiptRequest(request.query_string, await request.read())
            async with self._arrived:
                self.taken.append((request.path, taken))
                self._arrived.notify_all()
        return web.Response(status=status)

    async def first(self, count: int, *, within_s: float = 15) -> list[tuple[str, ReceiptRequest]]:
        async with self._arrived, asyncio.timeout(within_s):
            await self._arrived.wait_for(lambda: len(self.taken) >= count)
            return self.taken[:count]


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", receiver.take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield receiver
    finally:
        await runner.cleanup()
