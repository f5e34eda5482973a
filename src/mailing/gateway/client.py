"""One call to the gateway.

httpx is the interface, aiohttp the engine; httpx's own pool is left out, because it is quadratic in connections, and
so is its request building. Measured with 64 connections on one core: 6,100 calls a second, where `httpx.Request` gives
4,100 and aiohttp alone 9,000.

The transport reports a reset after writing as `ConnectTimeout`, so no exception type is trusted. What decides is
whether the request was on its way to the socket (`_Call.written`): before that nothing can have been accepted; after
it only a complete answer is an answer. A POST is never repeated by the engine, on whatever connection it failed.
"""

import asyncio
import os
import re
import socket
import ssl
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from contextvars import ContextVar
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, Self, cast

import aiohttp
import httpx
import msgspec
from aiohttp.connector import Connection
from httpx_aiohttp import AiohttpTransport

from mailing import crashpoints
from mailing.gateway.outcome import Answer, Outcome, classify

MOST_BODY_BYTES: Final = 64 * 1024
# Common servers close an idle connection after 5 s or later, and a call into a closing connection is ambiguous.
IDLE_CONNECTION_S: Final = 4.0

Begin = Callable[[], Awaitable[bool]]

_encode = msgspec.json.Encoder().encode


async def _at_once() -> bool:
    return True


class Gateway:
    """The gateway at `base_url`, such as `https://host/v1`: at most `concurrency` calls and connections at a time.

    `timeout_s` bounds a whole call: waiting for a free connection, connecting, writing, the answer to its last byte.
    Raises ValueError for an address or a token that no call could be made with. No proxy, netrc or cookie is used;
    certificates are checked against certifi's list, or the one that SSL_CERT_FILE names.
    """

    def __init__(self, *, base_url: str, token: str | None, timeout_s: float, concurrency: int) -> None:
        self.concurrency = concurrency
        self._send_url = f"{_checked_base(base_url)}/send/"
        self._headers = _headers(token)
        self._timeout_s = timeout_s
        self._slots = asyncio.Semaphore(concurrency)
        self._transport: AiohttpTransport | None = None

    async def __aenter__(self) -> Self:
        self._transport = _transport(self.concurrency, self._headers)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._transport is not None:
            await self._transport.aclose()
        self._transport = None

    async def send(
        self, message_id: int, *, phone: str, text: str, time_left_s: float, begin: Begin = _at_once
    ) -> Answer | None:
        """Hand one message over, once: nothing is repeated here, and no outcome is an exception.

        Ends within the smaller of `timeout_s` and `time_left_s`, and writes nothing after it. `begin` is asked when the
        connection is ready, right before the first byte: it may take its time, and None is returned if it says no.
        """
        order = _encode({"id": message_id, "phone": int(phone), "text": text})
        deadline_s = min(self._timeout_s, time_left_s)
        call = _Call(f"{self._send_url}{message_id}", order, deadline_s, begin)
        _current_call.set(call)
        try:
            async with asyncio.timeout(deadline_s), self._slots:
                return await self._exchange(call, message_id)
        except _NotBegunError:
            return None
        except TimeoutError:
            return call.broken(f"{call.waiting_for} within {deadline_s:.3g} s")
        except (httpx.TransportError, aiohttp.ClientError, OSError) as error:
            return call.broken(_sentence(error.__cause__ or error))

    async def _exchange(self, call: "_Call", message_id: int) -> Answer:
        if self._transport is None:
            raise RuntimeError("the gateway is used outside of its `async with`")
        call.waiting_for = "no connection"
        response = await self._transport.handle_async_request(call)
        call.status = status = response.status_code
        crashpoints.reached("call.head_read")
        call.waiting_for = "no complete answer"
        try:
            body = await _read(response)
        finally:
            await response.aclose()
        if len(body) > MOST_BODY_BYTES:
            return call.broken(f"the answer is longer than {MOST_BODY_BYTES} bytes")
        crashpoints.reached("call.answered")
        retry_after = response.headers.get("retry-after") if status in (429, 503) else None
        return classify(status, retry_after, body, message_id=message_id, now=datetime.now(UTC))


class _Call(httpx.Request):
    """One request, and how far it has come.

    It has what the transport reads of a request, and no more: httpx would parse the address and build the headers
    again for every message, which takes as long as all the rest. Its headers are the session's, built once.
    """

    def __init__(self, address: str, content: bytes, deadline_s: float, begin: Begin) -> None:
        self.method = "POST"
        self.url = cast("httpx.URL", address)  # only its str() is asked for
        self.headers = NO_HEADERS
        self.extensions = {}
        self._content = content
        self.begin = begin
        self.deadline = time.monotonic() + deadline_s
        self.written = False
        self.status: int | None = None
        self.waiting_for = "no free connection"

    def broken(self, reason: str) -> Answer:
        return Answer(Outcome.ambiguous if self.written else Outcome.not_sent, self.status, reason=reason)


NO_HEADERS: Final = httpx.Headers()
# The engine offers no way to hand an object through its transport to the place where the request is written.
_current_call: ContextVar[_Call] = ContextVar("_current_call")


class _NotBegunError(Exception):
    """The caller did not want it any more. Not the engine's kind of error, so that it comes through its transport."""


class _NotWrittenError(aiohttp.ClientError):
    """The call was given up before its first byte; the text is fit for `Answer.reason`."""


class _Request(aiohttp.ClientRequest):
    """Marks the call as written before its first byte can be."""

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        call = _current_call.get()
        if not await call.begin():
            raise _NotBegunError
        if time.monotonic() >= call.deadline:  # a frozen process wakes up here before its timers do
            raise _NotWrittenError("no time was left when the connection was ready")
        if conn.protocol is None or conn.protocol.should_close:  # it would be read as the answer to this message
            raise _NotWrittenError("the gateway had sent something on this connection before it was asked")
        crashpoints.reached("call.connected")
        call.written = True
        call.waiting_for = "no answer"
        response = await super().send(conn)
        crashpoints.reached("call.written")
        return response


class _Response(aiohttp.ClientResponse):
    """Forgets the reason phrase: the transport raises UnicodeEncodeError for one that is not UTF-8."""

    async def start(self, connection: Connection) -> Self:
        await super().start(connection)
        self.reason = None
        return self


async def reach(base_url: str, *, within_s: float) -> str | None:
    """What stands in the way of a connection, TLS included; None: nothing does. No request is sent."""
    url = httpx.URL(_checked_base(base_url))
    tls = httpx.create_ssl_context() if url.scheme == "https" else None
    try:
        async with asyncio.timeout(within_s):
            _, writer = await asyncio.open_connection(url.host, url.port or (443 if tls else 80), ssl=tls)
    except TimeoutError:
        return f"no connection within {within_s:.3g} s"
    except OSError as error:
        return _sentence(error)
    writer.close()
    return None


def _transport(concurrency: int, headers: dict[str, str]) -> AiohttpTransport:
    certificates = httpx.create_ssl_context()
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=concurrency, keepalive_timeout=IDLE_CONNECTION_S, ssl=certificates),
        headers=headers,
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        request_class=_Request,
        response_class=_Response,
    )
    return AiohttpTransport(client=session, verify=certificates)


def _checked_base(base_url: str) -> str:
    problem = "the gateway's address must be http(s)://host[:port][/path]"
    try:
        url = httpx.URL(base_url)
        url.raw_host.decode().encode("idna")  # a label no resolver takes would be an exception at every call
    except (httpx.InvalidURL, UnicodeError):
        raise ValueError(problem) from None
    if url.scheme not in ("http", "https") or not url.host or url.userinfo or url.query or url.fragment:
        raise ValueError(problem)
    if url.port not in (None, *range(1, 65_536)):
        raise ValueError(problem)
    return base_url.rstrip("/")


def _headers(token: str | None) -> dict[str, str]:
    headers = {
        "Accept": "application/json",
        "Accept-Encoding": "identity",  # compressed all the same, an answer is never unpacked: no bomb, no JSON
        "Content-Type": "application/json",
        "User-Agent": "mailing",
    }
    if token is None:
        return headers
    if not re.fullmatch(r"[!-~]+", token):
        raise ValueError("the gateway's token must be visible ASCII characters without spaces")
    return headers | {"Authorization": f"Bearer {token}"}


async def _read(response: httpx.Response) -> bytes:
    """Read the body as it came, up to one chunk (16 KiB) more than the limit."""
    body = bytearray()
    async with aclosing(cast("Any", response.stream).__aiter__()) as chunks:
        async for chunk in chunks:
            body += chunk
            if len(body) > MOST_BODY_BYTES:
                break
    return bytes(body)


# First match. Only for the reader: outcomes are decided elsewhere.
SENTENCES: Final[tuple[tuple[type[BaseException], str], ...]] = (
    (aiohttp.ClientConnectorDNSError, "the gateway's name does not resolve"),
    (aiohttp.ClientConnectorCertificateError, "the gateway's TLS certificate is not valid"),
    (aiohttp.ClientConnectorSSLError, "the TLS handshake failed"),
    (aiohttp.ServerDisconnectedError, "the gateway closed the connection without an answer"),
    (aiohttp.ClientPayloadError, "the answer broke off or is no valid HTTP"),
    (aiohttp.ClientResponseError, "the answer is no valid HTTP"),
    (socket.gaierror, "the gateway's name does not resolve"),
    (ssl.SSLCertVerificationError, "the gateway's TLS certificate is not valid"),
    (ssl.SSLError, "the TLS handshake failed"),
)


def _sentence(error: BaseException) -> str:
    if isinstance(error, _NotWrittenError):
        return str(error)
    for kind, sentence in SENTENCES:
        if isinstance(error, kind):
            return sentence
    number = error.errno if isinstance(error, OSError) else None
    return os.strerror(number).lower() if number else "the connection failed"
