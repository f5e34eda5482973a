"""Receipts and replies, sent as the provider sends them: with repeats until they are taken."""

import asyncio
from collections import Counter
from typing import Final

import aiohttp
from msgspec.structs import replace

from mailing.gateway.sandbox.behaviour import Behaviour, ReceiptPlan
from mailing.gateway.sandbox.dialects.dialect import Dialect, Order, Report, State

MAX_TRIES: Final = 20
RETRY_AFTER_S: Final = 1.0
TIMEOUT: Final = aiohttp.ClientTimeout(total=15)
MAX_AT_ONCE: Final = 32


class Reporter:
    """`counts` has the status of each request, or `failed`."""

    def __init__(self, dialect: Dialect) -> None:
        self.counts: Counter[str] = Counter()
        self._dialect = dialect
        self._tasks: set[asyncio.Task[None]] = set()
        self._places = asyncio.Semaphore(MAX_AT_ONCE)
        self._session: aiohttp.ClientSession | None = None

    async def report_early(self, order: Order, plan: ReceiptPlan) -> None:
        """Send the receipts before the call is answered."""
        for report in self._receipts(order, plan):
            await self._send(report)

    def report_later(self, order: Order, plan: ReceiptPlan, behaviour: Behaviour, *, reported: bool) -> None:
        """Send receipts, unless they are `reported` already, and what the phone replies."""
        reports = [] if reported else self._receipts(order, plan)
        if plan.reply and behaviour.replies_to:
            reports.append(self._dialect.incoming(behaviour.replies_to, phone=order.phone, text=behaviour.reply_text))
        if reports:
            task = asyncio.create_task(self._send_all(reports, behaviour.receipt_after_s))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._session:
            await self._session.close()

    def _receipts(self, order: Order, plan: ReceiptPlan) -> list[Report]:
        if plan.receipt_lost or not order.receipt_url:
            return []
        end: State = "undelivered" if plan.receipt_undelivered else "delivered"
        states: list[State] = [end, "accepted"] if plan.receipt_reversed else [end]
        reports = [self._dialect.report(order, state) for state in (*states, *([end] if plan.receipt_twice else []))]
        if plan.receipt_forged:
            forged: State = "delivered" if plan.receipt_undelivered else "undelivered"
            reports.insert(0, _forged(self._dialect.report(order, forged)))
        return [report for report in reports if report]

    async def _send_all(self, reports: list[Report], after_s: float) -> None:
        await asyncio.sleep(after_s)
        for report in reports:
            for _ in range(MAX_TRIES):
                if await self._send(report) not in ("429", "500", "502", "503", "failed"):
                    break
                await asyncio.sleep(RETRY_AFTER_S)

    async def _send(self, report: Report) -> str:
        self._session = self._session or aiohttp.ClientSession(timeout=TIMEOUT, trust_env=False)
        headers = {"Content-Type": report.content_type} if report.body else {}
        try:
            async with (
                self._places,
                self._session.request(report.method, report.url, data=report.body or None, headers=headers) as answer,
            ):
                came_to = str(answer.status)
        except (aiohttp.ClientError, OSError, TimeoutError):
            came_to = "failed"
        self.counts[came_to] += 1
        return came_to


def _forged(report: Report | None) -> Report | None:
    """Return the report with an address as a guesser would have it."""
    if report is None:
        return None
    url, mark, query = report.url.partition("?")
    return replace(report, url=url[:-1] + ("A" if url[-1] != "A" else "B") + mark + query)
