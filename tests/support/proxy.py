"""A TCP proxy before PostgreSQL that can break in the ways of networks and servers, and be mended again."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

from msgspec import structs

from mailing.settings import Settings

PIECE = 65_536
_RESET_AT_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER on, no time


class Proxy:
    """`latency_s`: before each piece, in both directions. `bytes_per_s`: no more than that; 0 is no limit.

    `cut_after`: when a client has said these words one after another on one connection, the last of them is handed on
    and the connection ends before the answer comes back; with `freeze_after` all connections freeze, and `on_frozen` is
    called. Each works once. `accepted` counts connections.
    """

    def __init__(self, url: str) -> None:
        self._url = urlsplit(url)
        self._port = 0
        self._server: asyncio.Server | None = None
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._passing = asyncio.Event()
        self._passing.set()
        self.accepted = 0
        self.latency_s = 0.0
        self.bytes_per_s = 0
        self.cut_after: tuple[bytes, ...] = ()
        self.freeze_after = b""
        self.on_frozen: Callable[[], None] = lambda: None

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
        await self.end_connections()

    async def reset(self) -> None:
        """As a firewall that forgot everything: every connection ends with RST, new ones are taken."""
        for writer in self._open.values():
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
        await self.end_connections()

    async def end_connections(self) -> None:
        tasks = list(self._open)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def freeze(self) -> None:
        """As when a machine disappears: nothing passes in either direction, and no connection ends."""
        self._passing.clear()

    def thaw(self) -> None:
        """Deliver late what was held back."""
        self._passing.set()

    def forget(self) -> None:
        """As when an address moves to another machine: connections are dead without knowing it, new ones pass."""
        self._passing.clear()
        self._passing = asyncio.Event()
        self._passing.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.current_task()
        assert task
        self._open[task] = writer
        task.add_done_callback(self._open.pop)
        with suppress(OSError, asyncio.CancelledError):
            await self._join(reader, writer)
        writer.transport.abort()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await self._connected()
        passing = self._passing
        forth = asyncio.create_task(self._forward(reader, back, passing))
        home = asyncio.create_task(self._forward(there, writer, passing))
        try:
            await asyncio.wait({forth, home}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            forth.cancel()
            home.cancel()
            back.close()  # before anything is waited for: that may be cancelled
            await asyncio.gather(forth, home, return_exceptions=True)

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Close a connection even if it is cancelled in the moment it was made."""
        opening = asyncio.ensure_future(asyncio.open_connection(self._url.hostname, self._url.port))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            _, writer = await opening
            writer.close()
            raise

    async def _forward(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, passing: asyncio.Event
    ) -> None:
        said = 0
        while data := await source.read(self.bytes_per_s or PIECE):
            await asyncio.sleep(self.latency_s + (len(data) / self.bytes_per_s if self.bytes_per_s else 0))
            await passing.wait()
            target.write(data)
            await target.drain()
            if self.freeze_after and self.freeze_after in data:
                self.freeze_after = b""
                self.freeze()
                self.on_frozen()
            while self.cut_after[said:] and self.cut_after[said] in data:
                said += 1
            if said and said == len(self.cut_after):
                self.cut_after = ()
                return


@asynccontextmanager
async def proxy(settings: Settings) -> AsyncIterator[tuple[Proxy, Settings]]:
    """Run the proxy; yield it and settings that connect through it."""
    between = Proxy(str(settings.database_url))
    await between.start()
    yield between, structs.replace(settings, database_url=between.url)
    await between.stop()
