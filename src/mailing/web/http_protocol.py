"""uvicorn's HTTP/1.1 protocol with the limits of size and time that it lacks.

All bytes outside bodies count: headers, pipelined requests, chunk sizes and extensions, trailers. Every wait for the
client has a deadline.

uvicorn offers no public hook for these limits, so this module overrides methods of its protocol class. Nothing else
imports uvicorn's internals; `tests/web/test_private_interfaces.py` names each one that it needs.
"""

import asyncio
from typing import Any, ClassVar

import msgspec
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from mailing.web.coalescing_transport import CoalescingTransport
from mailing.web.problems import PROBLEM_JSON, TITLES, Problem

MAX_CONNECTIONS = 900  # at once per process: below the usual limit of 1,024 open files
HEADER_TIMEOUT_S = 10
MAX_HEADER_BYTES = 32 * 1024  # also between two chunks of a body
MAX_HEADERS = 100
MAX_URL_BYTES = 8 * 1024
MAX_PARTS = 100  # of a URL's parameters or of cookies: each takes a hundred times its size once parsed
MAX_PIPELINED = 16  # pipelined requests
DRAIN_TIMEOUT_S = 20
MIN_DRAIN_RATE = 10_000  # bytes per second that a client must read, over DRAIN_TIMEOUT_S
LINGER_TIMEOUT_S = 30  # for the rest of a body after its answer: a close with unread bytes would reset the answer away


def _answer(status_line: str, detail: str) -> bytes:
    """Return a whole response, a problem document, after which the connection is closed."""
    status = int(status_line[:3])
    body = msgspec.json.encode(Problem(TITLES[status], status, detail))
    retry = "retry-after: 5\r\n" if status == 503 else ""
    head = f"HTTP/1.1 {status_line}\r\ncontent-type: {PROBLEM_JSON}\r\ncontent-length: {len(body)}\r\n{retry}"
    return head.encode() + b"connection: close\r\n\r\n" + body


INVALID_HTTP = _answer(
    "400 Bad Request",
    "This is not a valid HTTP/1.1 request. In the address, percent-encode spaces and characters that are not ASCII.",
)
TOO_SLOW = _answer("408 Request Timeout", "No complete request arrived in time. Send it again.")
URL_TOO_LONG = _answer(
    "414 URI Too Long", f"An address may have at most {MAX_URL_BYTES} bytes and {MAX_PARTS} parameters."
)
TOO_MANY_PIPELINED = _answer(
    "429 Too Many Requests", f"At most {MAX_PIPELINED} requests may wait for the answer to an earlier one."
)
HEADERS_TOO_LARGE = _answer(
    "431 Request Header Fields Too Large",
    f"A request may have at most {MAX_HEADERS} headers, {MAX_HEADER_BYTES} bytes in all, and {MAX_PARTS} cookies.",
)
BUSY = _answer("503 Service Unavailable", "All connections of this server are in use. Try again in a few seconds.")


class RequestRefused(Exception):
    """Raised in a parser callback: the parser stops for this connection."""


class BoundedProtocol(HttpToolsProtocol):
    """A refused request gets no answer while an earlier answer is being written: the connection is closed."""

    header_timeout_s: float = HEADER_TIMEOUT_S
    drain_timeout_s: float = DRAIN_TIMEOUT_S
    linger_timeout_s: float = LINGER_TIMEOUT_S
    max_connections = MAX_CONNECTIONS
    # Connections waiting for their client, the longest-waiting first.
    waiting_for_client: ClassVar[dict["BoundedProtocol", None]] = {}

    _active_cycle: RequestResponseCycle | None = None
    _head_deadline: asyncio.TimerHandle | None = None
    _drain_deadline: asyncio.TimerHandle | None = None
    _refusal = INVALID_HTTP
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
        if len(self.connections) > self.max_connections and not self._make_room():
            self._end(BUSY)
            return
        self._await_head()
        self._update_waiting()

    def _make_room(self) -> bool:
        longest = next(iter(self.waiting_for_client), None)
        if longest is None:
            return False
        self.waiting_for_client.pop(longest)
        longest.transport.abort()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.waiting_for_client.pop(self, None)
        self._stop_waiting_for_head()
        self._stop_draining()
        super().connection_lost(exc)
        if self._active_cycle is not None:  # uvicorn notifies only the last cycle, even if that one is pipelined
            self._active_cycle.disconnected = not self._active_cycle.response_complete
            self._active_cycle.message_event.set()

    def data_received(self, data: bytes) -> None:
        begins = self._head_deadline is None and self._is_idle()
        if begins:
            self._other_bytes = 0
        for start in range(0, len(data), MAX_HEADER_BYTES):
            if self.transport.is_closing():
                return
            self._feed(data if len(data) <= MAX_HEADER_BYTES else data[start : start + MAX_HEADER_BYTES])
        if begins and self._is_idle() and not self.transport.is_closing():  # most heads arrive whole: no timer
            self._limit_head(self.header_timeout_s)
        self._update_waiting()

    def _feed(self, piece: bytes) -> None:
        self._is_progress, self._body_bytes = False, 0
        super().data_received(piece)
        other = len(piece) - self._body_bytes
        self._other_bytes = other if self._is_progress else self._other_bytes + other
        if self._other_bytes > MAX_HEADER_BYTES:
            self._end(HEADERS_TOO_LARGE)

    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete  # type: ignore[redundant-expr] # None at first

    def on_message_begin(self) -> None:
        self._in_head = self._arriving = True
        self._fields = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > MAX_URL_BYTES or self.url.count(b"&") >= MAX_PARTS:
            self._refuse(URL_TOO_LONG)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Drop trailers: uvicorn would append them to the headers, which the application may be reading."""
        self._fields += 1
        if self._fields > MAX_HEADERS or (value.count(b";") >= MAX_PARTS and name.lower() == b"cookie"):
            self._refuse(HEADERS_TOO_LARGE)
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._is_progress = True
        self._stop_waiting_for_head()
        if len(self.pipeline) >= MAX_PIPELINED:
            self._refuse(TOO_MANY_PIPELINED)
        self._in_head = False
        super().on_headers_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._active_cycle = cycle
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
        elif self._is_idle():  # the rest of an unread body
            self._await_head()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._drain()
        elif self._is_idle():
            self.cycle.body = bytearray()
            if self._arriving:
                self._await_head(self.linger_timeout_s)
        self._update_waiting()

    def send_400_response(self, msg: str) -> None:
        """Close the connection: uvicorn calls this after a parse error, and after RequestRefused."""
        del msg
        self._end(self._refusal)

    def _refuse(self, answer: bytes) -> None:
        self._refusal = answer
        raise RequestRefused

    def _end(self, answer: bytes) -> None:
        self._stop_waiting_for_head()
        self._lingering = True  # long enough
        if self.transport.is_closing():
            return
        if self._may_answer():
            self.transport.write(answer)
        self.transport.close()
        self._drain()

    def _may_answer(self) -> bool:
        """Return False if this request was answered already, or an earlier one is unanswered."""
        if self._is_idle():
            return not self._arriving or self._in_head
        return not self._in_head and not self.cycle.response_started

    def _update_waiting(self) -> None:
        self.waiting_for_client.pop(self, None)
        is_sending = self._arriving and not self.flow.read_paused
        if not self.transport.is_closing() and (is_sending or self.flow.write_paused or self._is_idle()):
            self.waiting_for_client[self] = None

    def _await_head(self, within_s: float | None = None) -> None:
        self._other_bytes = 0
        self._limit_head(within_s or self.header_timeout_s)

    def _limit_head(self, within_s: float) -> None:
        self._stop_waiting_for_head()
        self._head_deadline = self.loop.call_later(within_s, self._end, TOO_SLOW)

    def _may_close(self) -> bool:
        """Return False while the body of an answered request arrives: many clients read the answer only after it."""
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
        self._update_waiting()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.transport.is_closing():
            self._stop_draining()
            self._update_waiting()

    def _drain(self) -> None:
        """Require the client to read the write buffer, at least MIN_DRAIN_RATE bytes per second from now on."""
        self._stop_draining()
        self._unsent = self.transport.get_write_buffer_size()
        self._drain_deadline = self.loop.call_later(self.drain_timeout_s, self._check_drain)

    def _check_drain(self) -> None:
        taken = self._unsent - self.transport.get_write_buffer_size()
        if taken < min(self._unsent, MIN_DRAIN_RATE * self.drain_timeout_s) or taken <= 0:
            self.transport.abort()
        else:
            self._drain()

    def _stop_draining(self) -> None:
        if self._drain_deadline is not None:
            self._drain_deadline.cancel()
            self._drain_deadline = None
