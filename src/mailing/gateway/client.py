"""One call to the gateway.

No exception type is trusted to say what became of a call. What decides is whether the request was handed to the socket
(`_Request._written`): before that nothing can have been accepted; after it only a complete answer is an answer.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Final, Self

import httpx
import msgspec

from mailing import failpoints
from mailing.database.monotonic import ticks
from mailing.gateway.http_transport import TRANSPORT_ERRORS, Exchange, HttpTransport, NotWrittenError, reason_of
from mailing.gateway.outcome import Answer, Outcome, classify
from mailing.reasons.codes import Fact, Reason, ReasonCode
from mailing.reasons.words import words_of

MAX_BODY_BYTES: Final = 64 * 1024

BeforeSend = Callable[[], Awaitable[bool]]

_encode = msgspec.json.Encoder().encode


async def _at_once() -> bool:
    return True


class GatewayClient:
    """The gateway at `base_url`, such as `https://host/v1`: at most `concurrency` calls and connections at a time.

    `timeout_s` bounds a whole call without `before_send`: waiting for a free connection, connecting, writing, and the
    answer to its last byte. Raises ValueError for an address or a token that no call could be made with. No proxy,
    netrc or cookie is used. Certificates are checked against certifi's list, or the one that SSL_CERT_FILE names.
    """

    def __init__(self, *, base_url: str, token: str | None, timeout_s: float, concurrency: int) -> None:
        self.concurrency = concurrency
        self._base_url = _checked_base(base_url)
        self._headers = _headers(token)
        self._timeout_s = timeout_s
        self._free_connections = asyncio.Semaphore(concurrency)
        self._transport: HttpTransport | None = None

    async def __aenter__(self) -> Self:
        certificates = httpx.create_ssl_context()
        self._transport = HttpTransport(
            self._base_url, headers=self._headers, certificates=certificates, concurrency=self.concurrency
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._transport is not None:
            await self._transport.close()
        self._transport = None

    async def send(
        self, message_id: int, *, phone: str, text: str, time_left_s: float, before_send: BeforeSend = _at_once
    ) -> Answer | None:
        """Send one message, once. Nothing is repeated here, and no outcome is an exception.

        Ends within `time_left_s`, and writes nothing after it. `before_send` is awaited when the connection is ready,
        right before the first byte; the time it takes does not count as the gateway's. None: it returned False, or
        `time_left_s` was over before it returned True.
        """
        if self._transport is None:
            raise RuntimeError("the gateway is used outside of its `async with`")
        if time_left_s <= 0:
            return None
        body = _encode({"id": message_id, "phone": int(phone), "text": text})
        deadline = _Deadline(self._timeout_s, time_left_s=time_left_s)
        request = _Request(message_id, self._transport.post(f"/send/{message_id}", body), deadline, before_send)
        try:
            async with asyncio.timeout(deadline.remaining_s) as deadline.timeout, self._free_connections:
                request.missing = ReasonCode.no_connection
                exchange = await self._transport.connect()
                try:
                    return await request.perform(exchange)
                finally:
                    exchange.release()
        except TimeoutError:
            if deadline.suspended:
                return None
            return request.failed(Reason(request.missing, {"within_s": _rounded(deadline.allowed_s)}))
        except TRANSPORT_ERRORS as error:
            return request.failed(reason_of(error))


class _Deadline:
    """Bounds a call by the timeout and by its message's end. `before_send` is bounded by the message's end alone."""

    timeout: asyncio.Timeout

    def __init__(self, timeout_s: float, *, time_left_s: float) -> None:
        self.allowed_s = min(timeout_s, time_left_s)
        self.suspended = False  # during `before_send`
        self._end = ticks() + time_left_s
        self._deadline = ticks() + self.allowed_s

    @property
    def remaining_s(self) -> float:
        return self._deadline - ticks()

    async def suspend_for(self, permission: Awaitable[bool]) -> bool:
        """Wait for the permission, at most until the message's end, and extend the call's deadline by that time.

        Returns whether the call may be made.
        """
        asked_at, self.suspended = ticks(), True
        self._reschedule(self._end - asked_at)
        permitted = await permission
        self.suspended = False
        self._deadline = min(self._deadline + ticks() - asked_at, self._end)
        self._reschedule(self.remaining_s)
        return permitted and ticks() < self._end  # a frozen process wakes up here before its timers do

    def _reschedule(self, within_s: float) -> None:
        self.timeout.reschedule(asyncio.get_running_loop().time() + within_s)


class _Request:
    """One request, and how far it has come."""

    def __init__(self, message_id: int, payload: bytes, deadline: _Deadline, before_send: BeforeSend) -> None:
        self.missing = ReasonCode.no_free_connection
        self._message_id = message_id
        self._payload = payload
        self._before_send = before_send
        self._deadline = deadline
        self._written = False
        self._status: int | None = None

    async def perform(self, exchange: Exchange) -> Answer | None:
        if not await self._deadline.suspend_for(self._before_send()):
            return None
        if self._deadline.remaining_s <= 0:
            raise NotWrittenError(ReasonCode.no_time_left)
        exchange.check()
        failpoints.hit("call.connected")
        self._written, self.missing = True, ReasonCode.no_answer
        exchange.write(self._payload)
        failpoints.hit("call.written")
        head = await exchange.head()
        self._status, self.missing = head.code, ReasonCode.no_complete_answer
        failpoints.hit("call.head_read")
        body = await exchange.body(MAX_BODY_BYTES)
        if body is None:
            return self.failed(Reason(ReasonCode.answer_too_long, {"max_bytes": MAX_BODY_BYTES}))
        failpoints.hit("call.answered")
        retry_after = head.headers.get("retry-after") if head.code in (429, 503) else None
        return classify(head.code, retry_after, body, message_id=self._message_id, now=datetime.now(UTC))

    def failed(self, reason: Reason) -> Answer:
        outcome = Outcome.ambiguous if self._written else Outcome.not_sent
        return Answer(outcome, self._status, reason=reason.code, facts=reason.params)


def _rounded(seconds: float) -> Fact:
    """Round to three digits; whole seconds have no point."""
    rounded = float(f"{seconds:.3g}")
    return int(rounded) if rounded.is_integer() else rounded


async def check_reachable(base_url: str, *, within_s: float) -> str | None:
    """Connect, TLS included, and send no request. Return what is wrong, or None."""
    url = httpx.URL(_checked_base(base_url))
    tls = httpx.create_ssl_context() if url.scheme == "https" else None
    try:
        async with asyncio.timeout(within_s):
            _, writer = await asyncio.open_connection(url.host, url.port or (443 if tls else 80), ssl=tls)
    except TimeoutError:
        return words_of(Reason(ReasonCode.no_connection, {"within_s": _rounded(within_s)}))
    except OSError as error:
        return words_of(reason_of(error))
    writer.close()
    return None


def _checked_base(base_url: str) -> str:
    problem = "the gateway's address must be http(s)://host[:port][/path]"
    try:
        url = httpx.URL(base_url)
        url.raw_host.decode().encode("idna")  # a label that no resolver takes would fail at each call
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
        "Accept-Encoding": "identity",  # an answer compressed all the same is never unpacked: no bomb, and no JSON
        "Content-Type": "application/json",
        "User-Agent": "mailing",
    }
    if token is None:
        return headers
    if not re.fullmatch(r"[!-~]+", token):
        raise ValueError("the gateway's token must be visible ASCII characters without spaces")
    return headers | {"Authorization": f"Bearer {token}"}
