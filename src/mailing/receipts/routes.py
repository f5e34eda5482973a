"""`/receipts/…` and `/replies/…`: requests of the provider, before all that serves people and programs.

The path is a capability, so it is never logged. These are also the most frequent requests, one a message: they pass
neither routing nor the log, and only their counts and times are kept.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Final, cast

import msgspec
from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Receive, Scope, Send

from mailing.database.engine import Sessions, transaction
from mailing.database.errors import transient
from mailing.errors import TooSlow, Unavailable
from mailing.gateway.providers.provider import Provider, Receipt, ReceiptRequest
from mailing.observability import failures
from mailing.observability.counters import WorkerCounters
from mailing.observability.log import get
from mailing.receipts.address import RECEIPTS_PATH, REPLIES_PATH, is_account_receipts, is_replies, message_of
from mailing.receipts.counters import RECEIPTS, REPLIES
from mailing.receipts.inbox import Inbox
from mailing.receipts.key import read_key
from mailing.receipts.opt_out_words import OptOutWords
from mailing.receipts.replies import take_reply
from mailing.receipts.repository import NewReceipt
from mailing.web.server import BodyTimeout

logger = get(__name__)

MAX_BODY_BYTES: Final = 256 * 1024
MAX_CODE_LENGTH: Final = 32
MAX_MESSAGE_ID: Final = 2**63 - 1
MAX_NOTED: Final = 100  # unlisted codes of one process
PREFIXES: Final = (RECEIPTS_PATH + "/", REPLIES_PATH + "/")

Count = Callable[[HTTPScope, int, float], None]


class Answer(msgspec.Struct, frozen=True):
    status: int
    body: bytes = b""


FORBIDDEN: Final = Answer(403)
MALFORMED: Final = Answer(400)
BUSY: Final = Answer(503)


class ReceiptDesk:
    """What takes receipts and replies in one process."""

    def __init__(
        self, sessions: Sessions, provider: Provider, words: OptOutWords, inbox: Inbox, counters: WorkerCounters
    ) -> None:
        self._sessions = sessions
        self._provider = provider
        self._words = words
        self._inbox = inbox
        self._counters = counters
        self._key: bytes | None = None
        self._reading_key = asyncio.Lock()
        self._noted: set[str | None] = set()

    async def answer(self, path: str, read: Callable[[], Awaitable[ReceiptRequest | None]]) -> Answer:
        """Answer a request. `read` is called only for an address that we made; it returns None for a bad request."""
        is_reply = path.startswith(REPLIES_PATH)
        try:
            return await (self._reply if is_reply else self._receipts)(path, read)
        except (Unavailable, TimeoutError):
            return BUSY
        except transient() as error:
            failures.log(logger, "receipt or reply not stored", error)
            return BUSY

    async def _receipts(self, path: str, read: Callable[[], Awaitable[ReceiptRequest | None]]) -> Answer:
        key, name = await self._read_key(), self._provider.name
        message_id = message_of(path, key=key, provider=name)
        if message_id is None and not (
            self._provider.receipts_account_wide and is_account_receipts(path, key=key, provider=name)
        ):
            self._counters.add(RECEIPTS, "forged")
            return FORBIDDEN
        request = await read()
        receipts = self._provider.parse_receipts(request) if request else None
        if receipts is None:
            self._counters.add(RECEIPTS, "malformed")
            return MALFORMED
        await self._inbox.put(self._known(receipts, message_id))
        return Answer(200, self._provider.receipt_answer)

    def _known(self, receipts: Sequence[Receipt], message_id: int | None) -> list[NewReceipt]:
        """Return what can be stored. The address of one message takes no receipt of another."""
        new = []
        for receipt in receipts:
            self._note(receipt)
            of = receipt.message_id if message_id is None else message_id
            if message_id is not None and receipt.message_id not in {None, message_id}:
                self._counters.add(RECEIPTS, "forged")
            elif of is None or not 0 < of <= MAX_MESSAGE_ID:
                self._counters.add(RECEIPTS, "unknown")
            else:
                new.append(NewReceipt(of, receipt.state, _code(receipt.code), _instant(receipt.at)))
        return new

    def _note(self, receipt: Receipt) -> None:
        """Log an unlisted status word once: an operator can then ask for it to be listed."""
        if receipt.is_listed:
            return
        self._counters.add(RECEIPTS, "unlisted")
        code = _code(receipt.code)
        if code not in self._noted and len(self._noted) < MAX_NOTED:
            self._noted.add(code)
            logger.warning("receipt with an unlisted status", provider=self._provider.name, code=code)

    async def _reply(self, path: str, read: Callable[[], Awaitable[ReceiptRequest | None]]) -> Answer:
        if not is_replies(path, key=await self._read_key(), provider=self._provider.name):
            self._counters.add(REPLIES, "forged")
            return FORBIDDEN
        request = await read()
        replies = self._provider.parse_replies(request) if request else None
        if replies is None:
            self._counters.add(REPLIES, "malformed")
            return MALFORMED
        for reply in replies:
            opted_out = await take_reply(self._sessions, reply, self._words)
            self._counters.add(REPLIES, "opt_out" if opted_out else "other")
        return Answer(200, self._provider.receipt_answer)

    async def _read_key(self) -> bytes:
        if self._key is None:
            async with self._reading_key:
                if self._key is None:
                    async with transaction(self._sessions) as session:
                        self._key = await read_key(session)
        return self._key


def _code(code: str | None) -> str | None:
    """Keep of a provider's reason what is printable ASCII, as the table requires."""
    kept = "".join(sign for sign in (code or "")[: 4 * MAX_CODE_LENGTH] if " " <= sign <= "~").strip()
    return kept[:MAX_CODE_LENGTH].strip() or None


def _instant(at: datetime | None) -> datetime | None:
    """Return a time that the database can compare with ours; it decides whether it is plausible."""
    return at if at and at.tzinfo and 2000 < at.year < 2100 else None


class ProviderRequests:
    """ASGI middleware around all others. `desk` returns None, and the answer is 404, if the provider sends nothing."""

    def __init__(self, app: ASGIApp, *, desk: Callable[[], ReceiptDesk | None], count: Count) -> None:
        self.app = app
        self._desk = desk
        self._count = count
        self._taking = BodyTimeout(self._take)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP or not scope["path"].startswith(PREFIXES):
            await self.app(scope, receive, send)
        elif scope["method"] == "GET":
            await self._take(scope, receive, send)
        else:
            await self._taking(scope, receive, send)

    async def _take(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope = cast("HTTPScope", scope)
        desk, began = self._desk(), time.monotonic()
        answer = await _answer(desk, scope, receive) if desk else Answer(404)
        scope["path_template"] = scope["path"][: scope["path"].index("/", 1)]
        self._count(scope, answer.status, time.monotonic() - began)
        await _send(send, answer)


async def _answer(desk: ReceiptDesk, scope: HTTPScope, receive: Receive) -> Answer:
    if scope["method"] not in {"GET", "POST"}:
        return Answer(405)

    async def read() -> ReceiptRequest | None:
        body = b"" if scope["method"] == "GET" else await _body(receive)
        return None if body is None else ReceiptRequest(_query(scope), _content_type(scope), body)

    try:
        return await desk.answer(scope["path"], read)
    except TooSlow:
        return Answer(408)
    except Exception as error:  # noqa: BLE001 - logged, without the path
        failures.log(logger, "request of the provider failed", error)
        return Answer(500)


async def _body(receive: Receive) -> bytes | None:
    """Read the body. None: it is too long, or its sender is gone."""
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


def _query(scope: HTTPScope) -> str:
    return scope["query_string"].decode("latin-1")


def _content_type(scope: HTTPScope) -> str:
    return next((value.decode("latin-1") for name, value in scope["headers"] if name == b"content-type"), "")


async def _send(send: Send, answer: Answer) -> None:
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(answer.body)).encode()),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
    ]
    if answer.status == BUSY.status:
        headers.append((b"retry-after", b"5"))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body, "more_body": False})
