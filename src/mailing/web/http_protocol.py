"""HTTP/1.1 with an end to everything: uvicorn's protocol, and the limits of size and time that it lacks.

Whatever a client sends that is not a body counts, wherever it stands: heads, also those sent ahead of their turn,
chunk sizes and their extensions, trailers. Whatever a client is waited for has a deadline.
"""

import asyncio
from collections.abc import Callable
from typing import Any, ClassVar

from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

MAX_CONNECTIONS = 900  # at once, for each process: below the usual limit of 1,024 open files
HEADER_TIMEOUT_S = 10
MAX_HEADER_BYTES = 32 * 1024  # between two pieces of a body as well
MAX_HEADERS = 100
MAX_URL_BYTES = 8 * 1024
MAX_PARTS = 100  # parameters of a URL, cookies: what is made of each takes a hundred times its bytes
MAX_PIPELINED = 16  # requests sent before the answer to an earlier one
DRAIN_TIMEOUT_S = 20
MIN_DRAIN_RATE = 10_000  # bytes a second that a client takes at least, over DRAIN_TIMEOUT_S
LINGER_TIMEOUT_S = 30  # for the rest of a body after its answer: a close with unread bytes would reset the answer away

MAX_COALESCED_BYTES = 64 * 1024  # of an answer; what is larger is written as it is, without a copy

TOO_LARGE = b"431 Request Header Fields Too Large"


class RequestRefused(Exception):
    """Raised in the parser's callbacks, which then parses nothing more of this connection."""


class BoundedProtocol(HttpToolsProtocol):
    """Nothing is answered to a refused request where another answer is on its way: the connection ends."""

    head_s: float = HEADER_TIMEOUT_S
    drain_s: float = DRAIN_TIMEOUT_S
    linger_s: float = LINGER_TIMEOUT_S
    most_connections = MAX_CONNECTIONS
    # Those whose client has to move next, the one that has not for longest first.
    waited_for: ClassVar[dict["BoundedProtocol", None]] = {}

    _worked_on: RequestResponseCycle | None = None
    _head_deadline: asyncio.TimerHandle | None = None
    _drain_deadline: asyncio.TimerHandle | None = None
    _refusal = b"400 Bad Request"
    _in_head = False
    _arriving = False  # a request that has begun and not ended
    _lingering = False  # answered and to be closed, once the rest of the body has come
    _is_progress = False
    _fields = 0
    _body_bytes = 0
    _other_bytes = 0
    _unsent = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        super().connection_made(transport)
        self.transport: Any = CoalescingTransport(transport, self.loop, may_close=self._may_close)
        if len(self.connections) > self.most_connections and not self._make_room():
            self._end(b"503 Service Unavailable")
            return
        self._await_head()
        self._note()

    def _make_room(self) -> bool:
        longest = next(iter(self.waited_for), None)
        if longest is None:
            return False
        self.waited_for.pop(longest)
        longest.transport.abort()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.waited_for.pop(self, None)
        self._stop_waiting_for_head()
        self._stop_draining()
        super().connection_lost(exc)
        if self._worked_on is not None:  # uvicorn tells the last one alone, be it sent ahead of its turn
            self._worked_on.disconnected = not self._worked_on.response_complete
            self._worked_on.message_event.set()

    def data_received(self, data: bytes) -> None:
        if self._head_deadline is None and self._is_idle():
            self._await_head()
        for start in range(0, len(data), MAX_HEADER_BYTES):
            if self.transport.is_closing():
                return
            self._feed(data if len(data) <= MAX_HEADER_BYTES else data[start : start + MAX_HEADER_BYTES])
        self._note()

    def _feed(self, piece: bytes) -> None:
        self._is_progress, self._body_bytes = False, 0
        super().data_received(piece)
        other = len(piece) - self._body_bytes
        self._other_bytes = other if self._is_progress else self._other_bytes + other
        if self._other_bytes > MAX_HEADER_BYTES:
            self._end(TOO_LARGE)

    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete  # type: ignore[redundant-expr] # None at first

    def on_message_begin(self) -> None:
        self._in_head = self._arriving = True
        self._fields = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > MAX_URL_BYTES or self.url.count(b"&") >= MAX_PARTS:
            self._refuse(b"414 URI Too Long")

    def on_header(self, name: bytes, value: bytes) -> None:
        """A trailer is dropped: uvicorn would add it to the head's fields, while they are read."""
        self._fields += 1
        if self._fields > MAX_HEADERS or (value.count(b";") >= MAX_PARTS and name.lower() == b"cookie"):
            self._refuse(TOO_LARGE)
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._is_progress = True
        self._stop_waiting_for_head()
        if len(self.pipeline) >= MAX_PIPELINED:
            self._refuse(b"429 Too Many Requests")
        self._in_head = False
        super().on_headers_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._worked_on = cycle
        super()._start_asgi_task(cycle, app)

    def on_chunk_header(self) -> None:
        self._is_progress = True

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._is_progress = True
        self._arriving = False
        super().on_message_complete()
        if self._lingering:
            self.transport.close()
            self._drain()
        elif self._is_idle():  # the rest of a body that nobody wanted
            self._await_head()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._drain()
        elif self._is_idle():
            self.cycle.body = bytearray()
            if self._arriving:
                self._await_head(self.linger_s)
        self._note()

    def send_400_response(self, msg: str) -> None:
        """What uvicorn does with a request that can't be parsed, and with one that was refused while it was."""
        del msg
        self._end(self._refusal)

    def _refuse(self, status: bytes) -> None:
        self._refusal = status
        raise RequestRefused

    def _end(self, status: bytes) -> None:
        self._stop_waiting_for_head()
        self._lingering = True  # long enough
        if self.transport.is_closing():
            return
        if self._may_answer():
            self.transport.write(b"HTTP/1.1 " + status + b"\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
        self.transport.close()
        self._drain()

    def _may_answer(self) -> bool:
        """Not to a request that was answered already, nor before the answer to an earlier one."""
        if self._is_idle():
            return not self._arriving or self._in_head
        return not self._in_head and not self.cycle.response_started

    def _note(self) -> None:
        self.waited_for.pop(self, None)
        is_sending = self._arriving and not self.flow.read_paused
        if not self.transport.is_closing() and (is_sending or self.flow.write_paused or self._is_idle()):
            self.waited_for[self] = None

    def _await_head(self, within_s: float | None = None) -> None:
        self._stop_waiting_for_head()
        self._other_bytes = 0
        self._head_deadline = self.loop.call_later(within_s or self.head_s, self._end, b"408 Request Timeout")

    def _may_close(self) -> bool:
        """False while an answered request's body is arriving: many clients read no answer before they have sent all."""
        if self._lingering or not self._arriving or self._in_head or not self._is_idle():
            return True
        self._lingering = True
        return False

    def _stop_waiting_for_head(self) -> None:
        if self._head_deadline is not None:
            self._head_deadline.cancel()
            self._head_deadline = None

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._drain()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._drain()
        self._note()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.transport.is_closing():
            self._stop_draining()
            self._note()

    def _drain(self) -> None:
        """From now on the client has to take what waits for it, DRAIN_RATE bytes a second at least."""
        self._stop_draining()
        self._unsent = self.transport.get_write_buffer_size()
        self._drain_deadline = self.loop.call_later(self.drain_s, self._look_at_what_drained)

    def _look_at_what_drained(self) -> None:
        taken = self._unsent - self.transport.get_write_buffer_size()
        if taken < min(self._unsent, MIN_DRAIN_RATE * self.drain_s) or taken <= 0:
            self.transport.abort()
        else:
            self._drain()

    def _stop_draining(self) -> None:
        if self._drain_deadline is not None:
            self._drain_deadline.cancel()
            self._drain_deadline = None


class CoalescingTransport:
    """A transport that hands on what one turn of the event loop wrote at its end: an answer's head with its body.

    uvicorn writes them apart, and each write is a system call, and a client that is woken twice.
    """

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, *, may_close: Callable[[], bool]
    ) -> None:
        self._transport = transport
        self._loop = loop
        self._may_close = may_close
        self._held: list[bytes] = []
        self._size = 0

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever else a transport has
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if len(data) > MAX_COALESCED_BYTES:
            self._flush()
            self._transport.write(data)
            return
        if not self._held:
            self._loop.call_soon(self._flush)
        self._held.append(data)
        self._size += len(data)
        if self._size > MAX_COALESCED_BYTES:
            self._flush()

    def close(self) -> None:
        self._flush()
        if self._may_close():
            self._transport.close()

    def _flush(self) -> None:
        if self._held:
            self._transport.write(b"".join(self._held))
            self._held.clear()
            self._size = 0
