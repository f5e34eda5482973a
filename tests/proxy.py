"""A TCP proxy before PostgreSQL that can break: it is stopped and started again, or cuts a connection at a word."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

from msgspec import structs

from mailing.settings import Settings


class Proxy:
    """`cut_after`: a client's bytes that hold it are handed on, the answer never comes back. Works once."""

    def __init__(self, url: str) -> None:
        self._url = urlsplit(url)
        self._port = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.cut_after: bytes | None = None

    @property
    def url(self) -> str:
        user = self._url.netloc.rpartition("@")[0]
        return self._url._replace(netloc=f"{user}@127.0.0.1:{self._port}".lstrip("@")).geturl()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """As when PostgreSQL goes away: every connection ends, and none is taken any more."""
        if self._server:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        with suppress(OSError, asyncio.CancelledError):
            await self._join(reader, writer)
        writer.transport.abort()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(self._url.hostname, self._url.port)
        forth = asyncio.create_task(self._forward(reader, back))
        home = asyncio.create_task(self._forward(there, writer))
        try:
            await asyncio.wait({forth, home}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            forth.cancel()
            home.cancel()
            await asyncio.gather(forth, home, return_exceptions=True)
            back.close()

    async def _forward(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while data := await source.read(65_536):
            cut = self.cut_after is not None and self.cut_after in data
            target.write(data)
            await target.drain()
            if cut:
                self.cut_after = None
                return


@asynccontextmanager
async def proxy(settings: Settings) -> AsyncIterator[tuple[Proxy, Settings]]:
    """The proxy, and the settings to go through it."""
    between = Proxy(str(settings.database_url))
    await between.start()
    yield between, structs.replace(settings, database_url=between.url)
    await between.stop()
