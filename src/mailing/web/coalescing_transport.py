"""A transport that joins the writes of one event-loop iteration, such as an answer's headers and body.

uvicorn writes them separately, and each write is a system call and a wake-up of the client.
"""

import asyncio
from collections.abc import Callable
from typing import Any

MAX_COALESCED_BYTES = 64 * 1024  # a larger write is passed on without a copy


class CoalescingTransport:
    """`close` closes only if `may_close` returns True; otherwise the protocol closes the transport later."""

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, *, may_close: Callable[[], bool]
    ) -> None:
        self._transport = transport
        self.is_closing = transport.is_closing  # asked several times a request
        self._loop = loop
        self._may_close = may_close
        self._pending: list[bytes] = []
        self._size = 0

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - every other attribute of a transport
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if len(data) > MAX_COALESCED_BYTES:
            self._flush()
            self._transport.write(data)
            return
        if not self._pending:
            self._loop.call_soon(self._flush)
        self._pending.append(data)
        self._size += len(data)
        if self._size > MAX_COALESCED_BYTES:
            self._flush()

    def close(self) -> None:
        self._flush()
        if self._may_close():
            self._transport.close()

    def _flush(self) -> None:
        if self._pending:
            self._transport.write(b"".join(self._pending))
            self._pending.clear()
            self._size = 0
