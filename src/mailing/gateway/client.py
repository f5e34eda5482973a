"""One call to the gateway.

No exception type is trusted to say what became of it. What decides is whether the request was on its way to the socket
(`_Call.written`): before that nothing can have been accepted; after it only a complete answer is an answer.
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
from mailing.gateway.http_transport import TRANSPORT_ERRORS, Exchange, HttpTransport, NotWrittenError, describe
from mailing.gateway.outcome import Answer, Outcome, classify

MOST_BODY_BYTES: Final = 64 * 1024

Begin = Callable[[], Awaitable[bool]]

_encode = msgspec.json.Encoder().encode


async def _at_once() -> bool:
    return True


class GatewayClient:
    """The gateway at `base_url`, such as `https://host/v1`: at most `concurrency` calls and connections at a time.

    `timeout_s` bounds a whole call, without what `begin` takes in between: waiting for a free connection, connecting,
    writing, the answer to its last byte. Raises ValueError for an address or a token that no call could be made with.
    No proxy, netrc or cookie is used; certificates are checked against certifi's list, or the one that SSL_CERT_FILE
    names.
    """

    def __init__(self, *, base_url: str, token: str | None, timeout_s: float, concurrency: int) -> None:
        self.concurrency = concurrency
        self._base_url = _checked_base(base_url)
        self._headers = _headers(token)
        self._timeout_s = timeout_s
        self._slots = asyncio.Semaphore(concurrency)
        self._wire: HttpTransport | None = None

    async def __aenter__(self) -> Self:
        certificates = httpx.create_ssl_context()
        self._wire = HttpTransport(
            self._base_url, headers=self._headers, certificates=certificates, concurrency=self.concurrency
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._wire is not None:
            await self._wire.close()
        self._wire = None

    async def send(
        self, message_id: int, *, phone: str, text: str, time_left_s: float, begin: Begin = _at_once
    ) -> Answer | None:
        """Hand one message over, once: nothing is repeated here, and no outcome is an exception.

        Ends within `time_left_s`, and writes nothing after it. `begin` is asked when the connection is ready, right
        before the first byte: it may take its time, which is not the gateway's. None is returned if it says no, or if
        `time_left_s` is over before it has said yes.
        """
        if self._wire is None:
            raise RuntimeError("the gateway is used outside of its `async with`")
        if time_left_s <= 0:
            return None
        order = _encode({"id": message_id, "phone": int(phone), "text": text})
        time = _Time(self._timeout_s, left_s=time_left_s)
        call = _Call(message_id, self._wire.post(f"/send/{message_id}", order), time, begin)
        try:
            async with asyncio.timeout(time.left_s) as time.limit, self._slots:
                call.waiting_for = "no connection"
                line = await self._wire.connect()
                try:
                    return await call.make(line)
                finally:
                    line.leave()
        except TimeoutError:
            return None if time.stands_still else call.broken(f"{call.waiting_for} within {time.deadline_s:.3g} s")
        except TRANSPORT_ERRORS as error:
            return call.broken(describe(error))


class _Time:
    """What a call may take, and what is left until its message's end, which bounds its turn as well."""

    limit: asyncio.Timeout

    def __init__(self, timeout_s: float, *, left_s: float) -> None:
        self.deadline_s = min(timeout_s, left_s)
        self.stands_still = False  # while the call waits for its turn
        self._end = ticks() + left_s
        self._deadline = ticks() + self.deadline_s

    @property
    def left_s(self) -> float:
        return self._deadline - ticks()

    async def of_its_own(self, turn: Awaitable[bool]) -> bool:
        """Waits for it, until the message's end at most, and gives the call the time back. False: it may not begin."""
        asked_at, self.stands_still = ticks(), True
        self._reschedule(self._end - asked_at)
        may_begin = await turn
        self.stands_still = False
        self._deadline = min(self._deadline + ticks() - asked_at, self._end)
        self._reschedule(self.left_s)
        return may_begin and ticks() < self._end  # a frozen process wakes up here before its timers do

    def _reschedule(self, within_s: float) -> None:
        self.limit.reschedule(asyncio.get_running_loop().time() + within_s)


class _Call:
    """One request, and how far it has come."""

    def __init__(self, message_id: int, request: bytes, time: _Time, begin: Begin) -> None:
        self.waiting_for = "no free connection"
        self._message_id = message_id
        self._request = request
        self._begin = begin
        self._time = time
        self._written = False
        self._status: int | None = None

    async def make(self, line: Exchange) -> Answer | None:
        if not await self._time.of_its_own(self._begin()):
            return None
        if self._time.left_s <= 0:
            raise NotWrittenError("no time was left when the connection was ready")
        line.check()
        failpoints.hit("call.connected")
        self._written, self.waiting_for = True, "no answer"
        line.write(self._request)
        failpoints.hit("call.written")
        head = await line.head()
        self._status, self.waiting_for = head.code, "no complete answer"
        failpoints.hit("call.head_read")
        body = await line.body(MOST_BODY_BYTES)
        if body is None:
            return self.broken(f"the answer is longer than {MOST_BODY_BYTES} bytes")
        failpoints.hit("call.answered")
        retry_after = head.headers.get("retry-after") if head.code in (429, 503) else None
        return classify(head.code, retry_after, body, message_id=self._message_id, now=datetime.now(UTC))

    def broken(self, reason: str) -> Answer:
        return Answer(Outcome.ambiguous if self._written else Outcome.not_sent, self._status, reason=reason)


async def check_reachable(base_url: str, *, within_s: float) -> str | None:
    """What stands in the way of a connection, TLS included; None: nothing does. No request is sent."""
    url = httpx.URL(_checked_base(base_url))
    tls = httpx.create_ssl_context() if url.scheme == "https" else None
    try:
        async with asyncio.timeout(within_s):
            _, writer = await asyncio.open_connection(url.host, url.port or (443 if tls else 80), ssl=tls)
    except TimeoutError:
        return f"no connection within {within_s:.3g} s"
    except OSError as error:
        return describe(error)
    writer.close()
    return None


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
