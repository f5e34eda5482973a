"""The gateway's one operation, and the sandbox's counts of it."""

import asyncio
import hmac
import re
from collections import Counter
from datetime import UTC, datetime
from typing import Final

import msgspec
from aiohttp import web

from mailing.gateway.sandbox.behaviour import Behaviour, Reaction, react
from mailing.gateway.sandbox.ledger import Ledger

HANG_S: Final = 3600.0  # longer than a client waits; `serve` cancels the handler when the client leaves
PHONES: Final = range(70_000_000_000, 80_000_000_000)
BIGINT: Final = range(-(2**63), 2**63)
MAX_COUNTED_IDS: Final = 2_000_000
INVALID_HTTP: Final = b"SMSC/0.9 yes\r\n\x00\xff\r\n\r\n"

# Regular answers. The other reactions break the connection, or never answer.
ANSWERS: Final[dict[str, tuple[int, bytes]]] = {
    "accept": (200, b'{"code":0,"message":"OK"}'),
    "duplicate": (409, b'{"code":409,"message":"duplicate id"}'),
    "full": (503, b'{"code":503,"message":"the ledger is full"}'),
    "error_500": (500, b'{"code":500,"message":"internal error"}'),
    "throttle_429": (429, b'{"code":429,"message":"too many requests"}'),
    "refuse_400": (400, b'{"code":400,"message":"refused"}'),
    "soft_refusal": (200, b'{"code":7,"message":"the operator is busy"}'),
    "unauthorized_401": (401, b'{"code":401,"message":"unauthorized"}'),
    "garbage": (200, b"<!doctype html><title>Maintenance</title><p>We will be back soon.</p>"),
}


class Order(msgspec.Struct, frozen=True):
    """The body of one call."""

    id: int
    phone: int
    text: str


_read_order = msgspec.json.Decoder(Order).decode


class Summary(msgspec.Struct, frozen=True):
    """`overlapping_calls` began while another call of the same id was still unanswered."""

    calls: int
    accepted: int
    unique_ids: int
    repeated_ids: int
    overlapping_calls: int
    answers: dict[str, int]


class SandboxGateway:
    """Its behaviour may be replaced at any time. Calls under way keep the one they began with."""

    def __init__(self, behaviour: Behaviour, *, token: str | None, ledger: Ledger) -> None:
        self.ledger = ledger
        self._token = token
        self._under_way: set[int] = set()
        self._reset_counts()
        self.behave(behaviour)

    def behave(self, behaviour: Behaviour) -> None:
        """Change the behaviour. The draws begin anew, so that a run replays."""
        self.behaviour = behaviour
        self._is_calm = behaviour.is_calm
        self._calls_of: dict[int, int] = {}

    def forget(self) -> None:
        """Empty the ledger, and begin to count and draw anew."""
        self.ledger.clear()
        self._reset_counts()
        self.behave(self.behaviour)

    def summary(self) -> Summary:
        return Summary(
            calls=self._calls,
            accepted=len(self.ledger),
            unique_ids=self.ledger.unique_ids,
            repeated_ids=self.ledger.repeated_ids,
            overlapping_calls=self._overlapping_calls,
            answers=dict(sorted(self._answers.items())),
        )

    async def send(self, request: web.Request) -> web.Response:
        self._calls += 1
        if self.behaviour.down:
            return await self._answer("down", request)
        if not self._is_authorised(request.headers.get("Authorization", "")):
            return await self._answer("unauthorized_401", request)
        order = _order(request.match_info["message_id"], await request.read())
        if isinstance(order, str):
            self._answers["invalid"] += 1
            return web.json_response({"code": 400, "message": order}, status=400)
        if order.id in self._under_way:
            self._overlapping_calls += 1
            return await self._react(order, request)
        self._under_way.add(order.id)
        try:
            return await self._react(order, request)
        finally:
            self._under_way.discard(order.id)

    async def _react(self, order: Order, request: web.Request) -> web.Response:
        """Accept first and delay the answer, as a slow gateway does."""
        reaction, latency_s = Reaction.accept, 0.0
        if not self._is_calm:
            reaction, latency_s = react(self.behaviour, order.id, self._nth_call(order.id))
        accepted = self._accept(order) if reaction in (Reaction.accept, Reaction.accept_then_drop) else ""
        return await self._answer(accepted if reaction is Reaction.accept else reaction.value, request, latency_s)

    def _accept(self, order: Order) -> str:
        if self.behaviour.recognises_ids and self.ledger.knows(order.id):
            return "duplicate"
        if self.ledger.is_full:
            return "full"
        self.ledger.accept(order.id, phone=order.phone, text=order.text, at=datetime.now(UTC))
        return "accept"

    async def _answer(self, answer: str, request: web.Request, latency_s: float = 0.0) -> web.Response:
        self._answers[answer] += 1
        if latency_s:
            await asyncio.sleep(latency_s)
        if answer not in ANSWERS:
            return await _break(answer, request)
        status, body = ANSWERS[answer]
        content_type = "text/html" if answer == "garbage" else "application/json"
        headers = {"Retry-After": str(self.behaviour.retry_after_s)} if answer == "throttle_429" else None
        return web.Response(status=status, body=body, content_type=content_type, headers=headers)

    def _is_authorised(self, header: str) -> bool:
        scheme, _, token = header.partition(" ")
        if self._token is None:
            return scheme == "Bearer" and bool(token.strip())
        return scheme == "Bearer" and hmac.compare_digest(token.encode(), self._token.encode())

    def _nth_call(self, message_id: int) -> int:
        if len(self._calls_of) >= MAX_COUNTED_IDS:
            self._calls_of.clear()
        number = self._calls_of.get(message_id, 0) + 1
        self._calls_of[message_id] = number
        return number

    def _reset_counts(self) -> None:
        self._calls = 0
        self._overlapping_calls = 0
        self._answers: Counter[str] = Counter()


async def _break(how: str, request: web.Request) -> web.Response:
    """Break the connection: the response returned here is never sent."""
    if how == "hang":
        await asyncio.sleep(HANG_S)
    if request.transport is None:
        return web.Response()
    if how == "invalid_http":
        request.transport.write(INVALID_HTTP)
        request.transport.close()
    else:
        request.transport.abort()
    return web.Response()


def _order(message_id: str, body: bytes) -> Order | str:
    """Read one call, or say what is wrong with it."""
    try:
        order = _read_order(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return str(error)
    if order.id not in BIGINT or not re.fullmatch(r"-?[0-9]{1,19}", message_id) or order.id != int(message_id):
        return "`id` must be a 64-bit integer and the same as in the path"
    if order.phone not in PHONES:
        return "`phone` must be a number of the form 7XXXXXXXXXX"
    return order
