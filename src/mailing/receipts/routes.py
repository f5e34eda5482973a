"""`/receipts/…` and `/replies/…`: requests of the provider, handled before the routing.

The path is a capability, so it is never logged. These are also the most frequent requests, one a message: they pass
neither routing nor the log, and only their counts and times are kept.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from litestar.types import HTTPResponseBodyEvent, HTTPResponseStartEvent, HTTPScope, Receive, Send
from msgspec.structs import replace

from mailing.database.engine import Sessions, in_transaction
from mailing.database.errors import transient
from mailing.errors import TooSlow, Unavailable
from mailing.gateway.providers.provider import Provider
from mailing.gateway.providers.receipt import Forged, Receipt, ReceiptRequest
from mailing.observability import failures
from mailing.observability.counters import WorkerCounters
from mailing.observability.log import get
from mailing.receipts.address import (
    RECEIPTS_PATH,
    REPLIES_PATH,
    is_account_receipts,
    is_replies,
    message_of,
    signing_secret,
)
from mailing.receipts.counters import RECEIPTS, REPLIES
from mailing.receipts.inbox import Inbox
from mailing.receipts.opt_out_words import OptOutWords
from mailing.receipts.replies import take_reply
from mailing.receipts.repository import read_key
from mailing.web.server import BodyTimeout
from mailing.web.state import HttpApp

logger = get(__name__)

MAX_BODY_BYTES: Final = 256 * 1024
MAX_MESSAGE_ID: Final = 2**63 - 1
MAX_NOTED: Final = 100  # unlisted codes of one process
PREFIXES: Final = (RECEIPTS_PATH + "/", REPLIES_PATH + "/")

Count = Callable[[HTTPScope, int, float], None]


class Answer:
    """An answer as its two ASGI events, made once."""

    def __init__(self, status: int, body: bytes = b"", *headers: tuple[bytes, bytes]) -> None:
        described = [(b"content-type", b"text/plain; charset=utf-8"), (b"x-content-type-options", b"nosniff")]
        fields = [
            (b"content-length", str(len(body)).encode()),
            (b"cache-control", b"no-store"),
            *(described if body else ()),
            *headers,
        ]
        self.status = status
        self.head: HTTPResponseStartEvent = {"type": "http.response.start", "status": status, "headers": fields}
        self.body: HTTPResponseBodyEvent = {"type": "http.response.body", "body": body, "more_body": False}


MALFORMED: Final = Answer(400)
FORBIDDEN: Final = Answer(403)
NOT_FOUND: Final = Answer(404)
METHOD_NOT_ALLOWED: Final = Answer(405, b"", (b"allow", b"GET, POST"))
TOO_SLOW: Final = Answer(408)
FAILED: Final = Answer(500)
BUSY: Final = Answer(503, b"", (b"retry-after", b"5"))


class ReceiptHandler:
    """Handle receipts and replies in one process.

    Each address names its provider. `providers` are the configured one, and those before a switch: their receipts may
    come for days, and a phone may reply STOP to an old message.
    """

    def __init__(
        self,
        sessions: Sessions,
        providers: Sequence[Provider],
        words: OptOutWords,
        inbox: Inbox,
        counters: WorkerCounters,
    ) -> None:
        self._sessions = sessions
        self._providers = providers
        self._words = words
        self._inbox = inbox
        self._counters = counters
        self._taken = {each.name: Answer(200, each.receipt_answer) for each in providers}
        self._key: bytes | None = None
        self._reading_key = asyncio.Lock()
        self._noted: set[str | None] = set()

    async def answer(self, scope: HTTPScope, receive: Receive) -> Answer:
        """Answer a request. Its body is read only if we made its address. Nothing is raised or logged with the path."""
        try:
            if scope["path"].startswith(REPLIES_PATH):
                return await self._reply(scope, receive)
            return await self._receipts(scope, receive)
        except (Unavailable, TimeoutError):
            return BUSY
        except TooSlow:
            return TOO_SLOW
        except transient() as error:
            failures.log(logger, "receipt or reply not stored", error)
            return BUSY
        except Exception as error:  # noqa: BLE001 - logged
            failures.log(logger, "request of the provider failed", error)
            return FAILED

    async def _receipts(self, scope: HTTPScope, receive: Receive) -> Answer:
        key = self._key or await self._read_key()
        try:
            provider, message_id = self._receipts_address(scope["path"], key)
            request = await _read(scope, receive)
            if request and provider.receipts_account_wide:
                request = replace(request, secret=signing_secret(key, provider.name))
            receipts = provider.parse_receipts(request) if request else None
        except Forged:
            self._counters.add(RECEIPTS, "forged")
            return FORBIDDEN
        if receipts is None:
            self._counters.add(RECEIPTS, "malformed")
            return MALFORMED
        for receipt in receipts:
            if not receipt.is_listed:
                self._note(receipt, provider)
        await self._inbox.put(self._known(receipts, message_id))
        return self._taken[provider.name]

    def _receipts_address(self, path: str, key: bytes) -> tuple[Provider, int | None]:
        """Return the provider of the address, and its message (None for an account's address)."""
        for provider in self._providers:
            message_id = message_of(path, key=key, provider=provider.name)
            if message_id is not None:
                return provider, message_id
            if provider.receipts_account_wide and is_account_receipts(path, key=key, provider=provider.name):
                return provider, None
        raise Forged

    def _known(self, receipts: Sequence[Receipt], message_id: int | None) -> list[Receipt]:
        """Return what can be stored. The address of one message takes no receipt of another."""
        new = []
        for receipt in receipts:
            of = receipt.message_id if message_id is None else message_id
            if message_id is not None and receipt.message_id not in {None, message_id}:
                self._counters.add(RECEIPTS, "forged")
            elif of is None or not 0 < of <= MAX_MESSAGE_ID:
                self._counters.add(RECEIPTS, "unknown")
            else:
                new.append(replace(receipt, message_id=of))
        return new

    def _note(self, receipt: Receipt, provider: Provider) -> None:
        """Log an unlisted status word once: an operator can then ask for it to be listed."""
        self._counters.add(RECEIPTS, "unlisted")
        if receipt.code not in self._noted and len(self._noted) < MAX_NOTED:
            self._noted.add(receipt.code)
            logger.warning("receipt with an unlisted status", provider=provider.name, code=receipt.code)

    async def _reply(self, scope: HTTPScope, receive: Receive) -> Answer:
        path, key = scope["path"], self._key or await self._read_key()
        provider = next((each for each in self._providers if is_replies(path, key=key, provider=each.name)), None)
        if provider is None:
            self._counters.add(REPLIES, "forged")
            return FORBIDDEN
        request = await _read(scope, receive)
        replies = provider.parse_replies(request) if request else None
        if replies is None:
            self._counters.add(REPLIES, "malformed")
            return MALFORMED
        for reply in replies:
            opted_out = await take_reply(self._sessions, reply, self._words)
            self._counters.add(REPLIES, "opt_out" if opted_out else "other")
        return self._taken[provider.name]

    async def _read_key(self) -> bytes:
        if self._key is None:
            async with self._reading_key:
                if self._key is None:
                    self._key = await in_transaction(self._sessions, read_key)
        return self._key


class ProviderRequests:
    """ASGI middleware around all others. The answer is 404 if `handler` returns None: the provider sends nothing."""

    def __init__(self, app: HttpApp, *, handler: Callable[[], ReceiptHandler | None], count: Count) -> None:
        self.app = app
        self._handler = handler
        self._count = count
        self._taking = BodyTimeout(self._take)

    def __call__(self, scope: HTTPScope, receive: Receive, send: Send) -> Awaitable[None]:
        if not scope["path"].startswith(PREFIXES):
            return self.app(scope, receive, send)
        if scope["method"] == "GET":
            return self._take(scope, receive, send)
        return self._taking(scope, receive, send)

    async def _take(self, scope: HTTPScope, receive: Receive, send: Send) -> None:
        handler, began = self._handler(), time.monotonic()
        if handler is None:
            answer = NOT_FOUND
        elif scope["method"] in {"GET", "POST"}:
            answer = await handler.answer(scope, receive)
        else:
            answer = METHOD_NOT_ALLOWED
        scope["path_template"] = scope["path"][: scope["path"].index("/", 1)]
        self._count(scope, answer.status, time.monotonic() - began)
        await send(answer.head)
        await send(answer.body)


async def _read(scope: HTTPScope, receive: Receive) -> ReceiptRequest | None:
    """Read a request. None: its body is too long, or its sender is gone."""
    query = scope["query_string"].decode("latin-1")
    if scope["method"] == "GET":
        return ReceiptRequest(query, b"")
    body = await _body(receive)
    return None if body is None else ReceiptRequest(query, body)


async def _body(receive: Receive) -> bytes | None:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        part = message.get("body", b"")
        size += len(part)
        if size > MAX_BODY_BYTES:
            return None
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)
