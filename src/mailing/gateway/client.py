"""One call to the gateway.

The type of an exception does not tell what became of a call. Whether the request was handed to the socket
(`_Request.written`) does: before that nothing can have been accepted; after it only a complete answer counts.
"""

import asyncio
import errno
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Final, Self

import msgspec
from yarl import URL

from mailing import failpoints
from mailing.database.monotonic import ticks
from mailing.gateway.deadline import Deadline, Deadlines
from mailing.gateway.http_transport import (
    TRANSPORT_ERRORS,
    Exchange,
    HttpTransport,
    NotWrittenError,
    StaleConnectionError,
    known_certificates,
    reason_of,
)
from mailing.gateway.outcome import Answer, Outcome, Response
from mailing.gateway.providers.provider import Outgoing, Provider
from mailing.observability.log import get
from mailing.reasons.codes import Fact, Reason, ReasonCode
from mailing.urls import is_base

MAX_BODY_BYTES: Final = 64 * 1024
SHORTAGE_PAUSE_S: Final = 1.0
SHORTAGE_LOGGED_EVERY_S: Final = 10.0

# Errors of connecting that are this machine's own, and what an operator can do.
LOCAL_SHORTAGES: Final[Mapping[int, str]] = {
    errno.EMFILE: "raise the limit of open files of this process (ulimit -n, LimitNOFILE)",
    errno.ENFILE: "raise the limit of open files of this machine (sysctl fs.file-max)",
    errno.EADDRNOTAVAIL: "free local ports, or allow more (sysctl net.ipv4.ip_local_port_range)",
    errno.ENOBUFS: "free memory of this machine",
    errno.ENOMEM: "free memory of this machine",
}

logger = get(__name__)

BeforeSend = Callable[[], bool | Awaitable[bool]]

# A provider's headers override these. A compressed answer is never unpacked: it could be a decompression bomb.
HEADERS: Final = {
    "Accept": "*/*",
    "Accept-Encoding": "identity",
    "Content-Type": "application/octet-stream",
    "User-Agent": "mailing",
}


class Origin(msgspec.Struct, frozen=True):
    """The sender, references and receipt addresses of this installation's messages. Phones show `sender`.

    `namespace` keeps the references of installations apart that share an account: ten hexadecimal digits. `receipt_url`
    gives the address for the receipts of a message, by its id.
    """

    sender: str = ""
    namespace: str = "0" * 10
    receipt_url: Callable[[int], str] | None = None


class GatewayClient:
    """The gateway of `provider` at `base_url`, such as `https://host/v1`.

    At most `concurrency` calls and connections at a time.

    `timeout_s` bounds a whole call without `before_send`: waiting for a free connection, connecting, writing, and the
    answer to its last byte. Raises ValueError for an address that no call could be made with. No proxy, netrc or cookie
    is used. Certificates are checked against certifi's list, or the one that SSL_CERT_FILE names.
    """

    def __init__(
        self,
        provider: Provider,
        *,
        base_url: str,
        timeout_s: float,
        concurrency: int,
        origin: Origin = Origin(),  # noqa: B008 - it is frozen
    ) -> None:
        self.concurrency = concurrency
        self._provider = provider
        self._base_url = checked_base(base_url)
        self._origin = origin
        self._timeout_s = timeout_s
        self._free_connections = asyncio.Semaphore(concurrency)
        self._deadlines = Deadlines()
        self._shortage_logged_at = float("-inf")
        self._transport: HttpTransport | None = None

    async def __aenter__(self) -> Self:
        # to load them takes 20 ms or more
        certificates = known_certificates() if URL(self._base_url).scheme == "https" else None
        self._transport = HttpTransport(
            self._base_url,
            headers=HEADERS | dict(self._provider.headers),
            certificates=certificates,
            concurrency=self.concurrency,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        self._deadlines.close()
        if self._transport is not None:
            await self._transport.close()
        self._transport = None

    async def send(
        self,
        message_id: int,
        *,
        phone: str,
        text: str,
        time_left_s: float,
        refusals: int = 0,
        before_send: BeforeSend = lambda: True,
    ) -> Answer | None:
        """Send one message, once. Nothing is repeated here, and no outcome is an exception.

        `refusals` is how often the provider refused the message softly: a call after that is not a repeat.

        Ends within `time_left_s`, and writes nothing after it. `before_send` is awaited when the connection is ready,
        right before the first byte; its time does not count against the gateway's timeout. None: it returned False,
        `time_left_s` was over before it returned True, or this machine lacks what a connection needs, such as a file
        descriptor: that tells nothing about the gateway.
        """
        if self._transport is None:
            raise RuntimeError("the gateway is used outside of its `async with`")
        if time_left_s <= 0:
            return None
        limit = self._provider.max_text_length
        if limit is not None and len(text) > limit:
            return Answer(Outcome.refused, reason=ReasonCode.text_too_long, facts={"max_length": limit})
        deadline = Deadline(self._deadlines, timeout_s=self._timeout_s, time_left_s=time_left_s)
        payload = partial(self._payload, self._transport, message_id, phone, text, refusals)
        request = _Request(self._provider, message_id, payload, deadline, before_send)
        try:
            with deadline:
                async with self._free_connections:
                    return await self._exchange(self._transport, request)
        except TimeoutError:
            if deadline.suspended:
                return None
            return request.failed(Reason(request.missing, {"within_s": rounded(deadline.allowed_s)}))
        except TRANSPORT_ERRORS as error:
            return await self._failure(request, error)

    async def _failure(self, request: "_Request", error: BaseException) -> Answer | None:
        """Return None for a shortage of this machine, after a pause, without which the message would be claimed and
        released endlessly.
        """
        number = error.errno if isinstance(error, OSError) else None
        if request.written or number is None or number not in LOCAL_SHORTAGES:
            return request.failed(reason_of(error))
        if ticks() - self._shortage_logged_at >= SHORTAGE_LOGGED_EVERY_S:
            self._shortage_logged_at = ticks()
            lacking = errno.errorcode[number]
            logger.warning("no resources for a call", error=lacking, remedy=LOCAL_SHORTAGES[number])
        await asyncio.sleep(SHORTAGE_PAUSE_S)
        return None

    async def _exchange(self, transport: HttpTransport, request: "_Request") -> Answer | None:
        request.missing = ReasonCode.no_connection
        with suppress(StaleConnectionError):  # closed while the permission was awaited
            return await request.perform(await transport.connect())
        return await request.perform(await transport.connect(reuse=False))

    def _payload(
        self, transport: HttpTransport, message_id: int, phone: str, text: str, refusals: int, valid_for_s: float
    ) -> bytes:
        origin = self._origin
        reference = f"{origin.namespace}-{message_id}-{refusals}"
        receipt_url = origin.receipt_url(message_id) if origin.receipt_url else None
        valid_s = max(1, int(valid_for_s))
        outgoing = Outgoing(message_id, phone, text, origin.sender, receipt_url, valid_s, reference=reference)
        return transport.post(self._provider.encode(outgoing))


@dataclass(slots=True)
class _Request:
    """One request, and how far it has come."""

    provider: Provider
    message_id: int
    payload: Callable[[float], bytes]
    deadline: Deadline
    before_send: BeforeSend
    missing: ReasonCode = ReasonCode.no_free_connection
    written: bool = False
    status: int | None = None

    async def perform(self, exchange: Exchange) -> Answer | None:
        """Ask for permission, write, and read the answer. Raise StaleConnectionError if nothing could be written."""
        try:
            return await self._perform(exchange)
        finally:
            exchange.release()

    async def _perform(self, exchange: Exchange) -> Answer | None:
        permitted = self.before_send()
        if not isinstance(permitted, bool):
            permitted = await self.deadline.suspend_for(permitted)
        if not permitted or self.deadline.message_end_in_s <= 0:  # a frozen process wakes up here before its timers do
            return None
        if self.deadline.remaining_s <= 0:
            raise NotWrittenError(ReasonCode.no_time_left)
        payload = self.payload(self.deadline.message_end_in_s)
        exchange.check()
        failpoints.hit("call.connected")
        self.written, self.missing = True, ReasonCode.no_answer
        exchange.write(payload)
        failpoints.hit("call.written")
        head = await exchange.head()
        self.status, self.missing = head.code, ReasonCode.no_complete_answer
        failpoints.hit("call.head_read")
        body = await exchange.body(MAX_BODY_BYTES)
        if body is None:
            return self.failed(Reason(ReasonCode.answer_too_long, {"max_bytes": MAX_BODY_BYTES}))
        failpoints.hit("call.answered")
        retry_after = head.headers.get("retry-after") if head.code in (429, 503) else None
        response = Response(head.code, body, retry_after, datetime.now(UTC))
        return self.provider.classify(response, self.message_id)

    def failed(self, reason: Reason) -> Answer:
        outcome = Outcome.ambiguous if self.written else Outcome.not_sent
        return Answer(outcome, self.status, reason=reason.code, facts=reason.params)


def rounded(seconds: float) -> Fact:
    """Round to three digits; whole seconds have no point."""
    rounded = float(f"{seconds:.3g}")
    return int(rounded) if rounded.is_integer() else rounded


def checked_base(base_url: str) -> str:
    """Return the address without a slash at its end. Raise ValueError if no call could be made with it."""
    if not is_base(base_url):
        raise ValueError("the gateway's address must be http(s)://host[:port][/path]")
    return base_url.rstrip("/")
