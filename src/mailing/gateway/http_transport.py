"""HTTP/1.1 to one address: aiohttp's connections, TLS and parser, without the session that lies above them.

A session builds address, headers, request and response anew for each call. Here everything but the id and the body is
made once, which halves the cost of a call (decision 20). A POST is written once, and never again on another connection.
Redirects, cookies, proxies and passwords from the environment belong to the session: here are none.
"""

import asyncio
import errno
import os
import socket
import ssl
from collections import deque
from typing import Final

import aiohttp
import certifi
from aiohttp import StreamReader, hdrs
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http import HttpProcessingError, RawResponseMessage
from yarl import URL

from mailing.database.monotonic import ticks
from mailing.gateway.providers.provider import Call
from mailing.reasons.codes import Reason, ReasonCode

# Common servers close an idle connection after 5 s or later, and a call into a closing connection is ambiguous.
IDLE_CONNECTION_S: Final = 4.0
READ_AHEAD_BYTES: Final = 64 * 1024
NO_TIMEOUT: Final = aiohttp.ClientTimeout()  # the caller has a deadline

# Everything that can go wrong between connecting and the last byte of the answer.
TRANSPORT_ERRORS: Final = (aiohttp.ClientError, HttpProcessingError, OSError)


def known_certificates() -> ssl.SSLContext:
    """Trust certifi's list, or only what SSL_CERT_FILE or SSL_CERT_DIR names, as httpx does."""
    file, directory = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    if directory and not file:
        return ssl.create_default_context(capath=directory)
    return ssl.create_default_context(cafile=file or certifi.where())


class NotWrittenError(aiohttp.ClientError):
    """Given up before the first byte."""

    def __init__(self, reason: ReasonCode) -> None:
        super().__init__(reason.value)
        self.reason = reason


class StaleConnectionError(NotWrittenError):
    """A kept connection went stale before the first byte. That says nothing about the gateway: a new one may work."""


class HttpTransport:
    """Up to `concurrency` connections to the host of `base_url`; an idle one is kept for IDLE_CONNECTION_S.

    https is checked against `certificates`; http needs none. Create and close it in the same running loop.
    """

    def __init__(
        self, base_url: str, *, headers: dict[str, str], certificates: ssl.SSLContext | None, concurrency: int
    ) -> None:
        url = URL(base_url)
        self._target = aiohttp.ClientRequest(hdrs.METH_POST, url, loop=asyncio.get_running_loop())
        self._connector = aiohttp.TCPConnector(limit=concurrency, ssl=certificates or True)
        # The oldest first, each since when. The connector could keep them too, which costs a call 4 us more.
        self._idle: deque[tuple[float, Connection]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._path = url.raw_path.rstrip("/")
        self._head = f" HTTP/1.1\r\nHost: {self._target.headers[hdrs.HOST]}\r\n{lines}Content-Length: "

    async def close(self) -> None:
        if self._timer:
            self._timer.cancel()
        for _, connection in self._idle:
            connection.close()
        await self._connector.close()

    async def connect(self, *, reuse: bool = True) -> "Exchange":
        """Raise one of TRANSPORT_ERRORS if there is no connection."""
        while reuse and self._idle:
            since, connection = self._idle.pop()
            if flaw_of(connection, idle_since=since) is None:
                return Exchange(self, connection, idle_since=since)
            connection.close()
        return Exchange(self, await self._connector.connect(self._target, [], NO_TIMEOUT))

    def keep(self, connection: Connection, *, idle_since: float) -> None:
        """Keep it for another call, or close it after IDLE_CONNECTION_S."""
        self._idle.append((idle_since, connection))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(IDLE_CONNECTION_S, self._close_idle)

    def _close_idle(self) -> None:
        too_old = ticks() - IDLE_CONNECTION_S
        while self._idle and self._idle[0][0] <= too_old:
            self._idle.popleft()[1].close()
        self._timer = None
        if self._idle:
            self._timer = asyncio.get_running_loop().call_later(self._idle[0][0] - too_old, self._close_idle)

    def post(self, call: Call) -> bytes:
        head = f"POST {self._path}{call.path}{self._head}{len(call.body)}\r\n".encode()
        return head + call.headers + b"\r\n" + call.body


def flaw_of(connection: Connection, *, idle_since: float | None = None) -> ReasonCode | None:
    """Return why no request can be written to it. Bytes that a server sent unasked would be read as the next answer.

    A connection that was idle for IDLE_CONNECTION_S counts as closed.
    """
    protocol = connection.protocol
    is_too_old = idle_since is not None and ticks() - idle_since >= IDLE_CONNECTION_S
    if protocol is None or not protocol.is_connected() or is_too_old:
        return ReasonCode.connection_closed
    return ReasonCode.connection_spoiled if protocol.should_close else None


class Exchange:
    """One request and its answer on a connection: `check`, `write`, `head`, `body`; then `release`, wherever it ended.

    `head` and `body` raise one of TRANSPORT_ERRORS. `idle_since` is None for a new connection.
    """

    def __init__(self, transport: HttpTransport, connection: Connection, *, idle_since: float | None = None) -> None:
        self._transport = transport
        self._connection = connection
        self._idle_since = idle_since
        self._unused = True
        self._content: StreamReader | None = None

    def check(self) -> None:
        """Call right before the first byte. Raises NotWrittenError for a connection that can't be used any more."""
        if flaw := flaw_of(self._connection, idle_since=self._idle_since):
            raise NotWrittenError(flaw) if self._idle_since is None else StaleConnectionError(flaw)

    def write(self, request: bytes) -> None:
        protocol, transport = self._endpoints()
        self._unused, self._idle_since = False, None
        protocol.set_response_params(read_until_eof=True, auto_decompress=False, read_bufsize=READ_AHEAD_BYTES)
        transport.write(request)

    async def head(self) -> RawResponseMessage:
        """Return the final answer's head. Interim answers, such as 100 Continue, are skipped."""
        protocol, _ = self._endpoints()
        while True:
            message, content = await protocol.read()
            if message.code == 101 or not 100 <= message.code <= 199:
                self._content = content
                return message

    async def body(self, max_bytes: int) -> bytes | None:
        """Return the body as it came, never unpacked. None: it is longer than `max_bytes`."""
        content, read = self._content, b""
        while content is not None and not content.at_eof():
            read += await content.readany()
            if len(read) > max_bytes:
                return None
        return read

    def release(self) -> None:
        """Keep the connection for the next call if the whole answer was read or nothing was written; else close it."""
        is_at_rest = self._unused or (self._content is not None and self._content.at_eof())
        if is_at_rest and flaw_of(self._connection, idle_since=self._idle_since) is None:
            self._transport.keep(self._connection, idle_since=self._idle_since or ticks())
        else:
            self._connection.close()

    def _endpoints(self) -> tuple[ResponseHandler, asyncio.Transport]:
        protocol, transport = self._connection.protocol, self._connection.transport
        if protocol is None or transport is None:
            raise aiohttp.ServerDisconnectedError
        return protocol, transport


# The first match counts. Only for the words that people read: outcomes are decided elsewhere.
REASONS: Final[tuple[tuple[type[BaseException], ReasonCode], ...]] = (
    (aiohttp.ClientConnectorDNSError, ReasonCode.name_not_resolved),
    (aiohttp.ClientConnectorCertificateError, ReasonCode.invalid_certificate),
    (aiohttp.ClientConnectorSSLError, ReasonCode.tls_failed),
    (aiohttp.ServerDisconnectedError, ReasonCode.closed_without_answer),
    (aiohttp.ClientPayloadError, ReasonCode.answer_broke_off),
    (HttpProcessingError, ReasonCode.invalid_http),
    (socket.gaierror, ReasonCode.name_not_resolved),
    (ssl.SSLCertVerificationError, ReasonCode.invalid_certificate),
    (ssl.SSLError, ReasonCode.tls_failed),
)
ERRNOS: Final = {
    errno.ECONNREFUSED: ReasonCode.connection_refused,
    errno.ECONNRESET: ReasonCode.connection_reset,
}


def reason_of(error: BaseException) -> Reason:
    """Say what is wrong without the error's own words: these may quote an address or an answer."""
    if isinstance(error, NotWrittenError):
        return Reason(error.reason)
    for kind, code in REASONS:
        if isinstance(error, kind):
            return Reason(code)
    number = error.errno if isinstance(error, OSError) else None
    if number in ERRNOS:
        return Reason(ERRNOS[number])
    name = errno.errorcode.get(number or 0)
    return Reason(ReasonCode.connection_error, {"errno": name}) if name else Reason(ReasonCode.connection_failed)
