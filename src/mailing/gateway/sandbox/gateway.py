"""The gateway's one operation, and the sandbox's counts of it."""

import asyncio
import hmac
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

import msgspec
from aiohttp import web
from msgspec.structs import replace

from mailing.gateway.sandbox.behaviour import Behaviour, Reaction, plan_receipt, react
from mailing.gateway.sandbox.dialects.dialect import Dialect, Order, Received, Reply
from mailing.gateway.sandbox.ledger import Ledger
from mailing.gateway.sandbox.reporting import Reporter

HANG_S: Final = 3600.0  # longer than a client waits; `serve` cancels the handler when the client leaves
MAX_COUNTED_IDS: Final = 2_000_000
GARBAGE: Final = b"<!doctype html><title>Maintenance</title><p>We will be back soon.</p>"
BROKEN: Final = frozenset({"down", "invalid_http", "hang", "accept_then_drop", "drop"})
INVALID_HTTP: Final = b"SMSC/0.9 yes\r\n\x00\xff\r\n\r\n"


class Summary(msgspec.Struct, frozen=True):
    """`overlapping_calls` began while another call of the same id was still unanswered.

    `reports` counts receipts and replies by what they were answered.
    """

    calls: int
    accepted: int
    unique_ids: int
    repeated_ids: int
    overlapping_calls: int
    answers: dict[str, int]
    reports: dict[str, int]


class SandboxGateway:
    """Its behaviour may be replaced at any time. Calls under way keep the one they began with.

    Without `token` any password is accepted, but there must be one.
    """

    def __init__(self, behaviour: Behaviour, *, dialect: Dialect, token: str | None, ledger: Ledger) -> None:
        self.ledger = ledger
        self.dialect = dialect
        self._reporter = Reporter(dialect)
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
            reports=dict(sorted(self._reporter.counts.items())),
        )

    async def send(self, request: web.Request) -> web.Response:
        self._calls += 1
        if self.behaviour.down:
            return await self._answer("down", request)
        call = await _received(request)
        if not self._is_authorised(call):
            return await self._answer("unauthorized_401", request)
        order = self.dialect.read(call)
        if isinstance(order, str):
            self._answers["invalid"] += 1
            return _response(self.dialect.answer("invalid", None, order))
        if order.id in self._under_way:
            self._overlapping_calls += 1
            return await self._react(order, request)
        if order.id:
            self._under_way.add(order.id)
        try:
            return await self._react(order, request)
        finally:
            self._under_way.discard(order.id)

    async def check(self, request: web.Request) -> web.Response:
        if not self._is_authorised(await _received(request)):
            return _response(self.dialect.answer("unauthorized_401", None))
        return web.json_response({"balance": "100.00", "status": "active"})

    async def close(self) -> None:
        await self._reporter.close()
        self.ledger.close()

    async def _react(self, order: Order, request: web.Request) -> web.Response:
        """Accept first and delay the answer, as a slow gateway does."""
        reaction, latency_s, nth = Reaction.accept, 0.0, 1
        if not self._is_calm:
            nth = self._nth_call(order.id)
            reaction, latency_s = react(self.behaviour, order.id, nth)
        accepted = self._accept(order) if reaction in (Reaction.accept, Reaction.accept_then_drop) else ""
        if accepted == "accept":
            await self._report(order, nth)
        what = accepted if reaction is Reaction.accept else reaction.value
        return await self._answer(what, request, latency_s, order=order)

    async def _report(self, order: Order, nth: int) -> None:
        to = order.receipt_url or self.behaviour.receipts_to
        order = replace(order, receipt_url=to, secret=self.behaviour.receipts_secret)
        if not order.receipt_url and not self.behaviour.reply:
            return
        plan = plan_receipt(self.behaviour, order.id, nth)
        if plan.receipt_early:
            await self._reporter.report_early(order, plan)
        self._reporter.report_later(order, plan, self.behaviour, reported=plan.receipt_early)

    def _accept(self, order: Order) -> str:
        if (self.dialect.recognises_ids or self.behaviour.recognises_ids) and self.ledger.knows(order.id):
            return "duplicate"
        if self.ledger.is_full:
            return "full"
        self.ledger.accept(order.id, phone=order.phone, text=order.text, at=datetime.now(UTC))
        return "accept"

    async def _answer(
        self, what: str, request: web.Request, latency_s: float = 0.0, *, order: Order | None = None
    ) -> web.Response:
        self._answers[what] += 1
        if latency_s:
            await asyncio.sleep(latency_s)
        if what in BROKEN:
            return await _break(what, request)
        if what == "garbage":
            return web.Response(body=GARBAGE, content_type="text/html")
        headers = {"Retry-After": str(self.behaviour.retry_after_s)} if what == "throttle_429" else None
        return _response(self.dialect.answer(what, order), headers)

    def _is_authorised(self, call: Received) -> bool:
        password = self.dialect.password(call)
        if self._token is None or password is None:
            return password is not None
        return hmac.compare_digest(password.encode(), self._token.encode())

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


async def _received(request: web.Request) -> Received:
    return Received(request.match_info.get("message_id", ""), request.headers, await request.read())


def _response(reply: Reply, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(status=reply.status, body=reply.body, content_type=reply.content_type, headers=headers)


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
