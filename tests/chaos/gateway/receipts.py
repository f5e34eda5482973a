"""Sends receipts for what the gateway accepted: early, late, twice, in the wrong order, and some that are forged.

It follows the gateway's ledger and speaks Kannel's way: GET with `?state=`. What it has sent and what it was answered
is in `reported`.
"""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import httpx
from msgspec import Struct

from chaos.checker.facts import Reported
from chaos.gateway.ledger import LedgerFollower
from mailing.gateway.providers.receipt import ReceiptState
from mailing.receipts.address import receipt_path

PROVIDER: Final = "kannel"
WORDS: Final = {ReceiptState.accepted: 8, ReceiptState.undelivered: 2, ReceiptState.delivered: 1}
FORGER: Final = bytes(32)  # another key than the installation's
# What one message's receipts are, in the order in which they are sent.
PLANS: Final = (
    (ReceiptState.delivered,),
    (ReceiptState.accepted, ReceiptState.delivered),
    (ReceiptState.delivered, ReceiptState.accepted),
    (ReceiptState.delivered, ReceiptState.delivered),
    (ReceiptState.undelivered, ReceiptState.delivered),
    (ReceiptState.delivered, ReceiptState.undelivered),
    (ReceiptState.undelivered,),
    (ReceiptState.accepted,),
    (),
)
FORGED: Final = 0.2  # of the messages
MAX_AT_ONCE: Final = 32
FOLLOW_S: Final = 0.02
RETRY_S: Final = 0.2


class _Due(Struct, frozen=True):
    message_id: int
    states: tuple[ReceiptState, ...]
    delay_s: float


class ReceiptSender:
    """`base` is where the API is reached."""

    def __init__(self, ledger: Path, http: httpx.AsyncClient, key: bytes, *, base: str, seed: int) -> None:
        self.reported: list[Reported] = []
        self._follower = LedgerFollower(ledger)
        self._http = http
        self._base = base
        self._places = asyncio.Semaphore(MAX_AT_ONCE)
        self._key = key
        self._random = random.Random(seed)  # noqa: S311 - a replay must be the same
        self._planned: set[int] = set()

    async def run(self, stop: asyncio.Event) -> None:
        """Follow the ledger until `stop`, then send what is left."""
        async with asyncio.TaskGroup() as sending:
            while True:
                is_last = stop.is_set()
                for due in self._new():
                    sending.create_task(self._send(due))
                if is_last:
                    return
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), FOLLOW_S)

    def _new(self) -> list[_Due]:
        """Plan the receipts of each message whose first acceptance the ledger has noted since the last look."""
        accepted = set(self._follower.accepted()) - self._planned
        self._planned |= accepted
        return [
            _Due(message_id, self._random.choice(PLANS), self._random.choice((0.0, 0.05, 0.5)))
            for message_id in sorted(accepted)
        ]

    async def _send(self, due: _Due) -> None:
        await asyncio.sleep(due.delay_s)
        if self._random.random() < FORGED:
            await self._report(due.message_id, ReceiptState.delivered, key=FORGER)
        for state in due.states:
            await self._report(due.message_id, state, key=self._key)

    async def _report(self, message_id: int, state: ReceiptState, *, key: bytes) -> None:
        """Report until the answer is no 503, as providers do."""
        address = self._base + receipt_path(key, PROVIDER, message_id)
        while True:
            with suppress(httpx.TransportError):
                async with self._places:
                    answer = await self._http.get(address, params={"state": WORDS[state]})
                if answer.status_code not in {500, 503}:
                    break
            await asyncio.sleep(RETRY_S)
        self.reported.append(Reported(message_id, state.value, answer.status_code, key is FORGER))


@asynccontextmanager
async def sending_receipts(
    ledger: Path, http: httpx.AsyncClient, key: bytes, *, base: str, seed: int = 0
) -> AsyncIterator[ReceiptSender]:
    """Send receipts while the block lasts, and at its end what is left."""
    sender, stop = ReceiptSender(ledger, http, key, base=base, seed=seed), asyncio.Event()
    task = asyncio.create_task(sender.run(stop))
    try:
        yield sender
    finally:
        stop.set()
        await task
