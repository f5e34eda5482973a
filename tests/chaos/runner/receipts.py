"""The provider's part of a run: it reports what it accepted, while everything breaks."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from chaos.gateway.receipts import ReceiptSender, sending_receipts
from chaos.runner.environment import Site


@asynccontextmanager
async def reporting(here: Site, *, seed: int) -> AsyncIterator[ReceiptSender]:
    """Send receipts while the block lasts, and at its end what is left."""
    async with here.database.connection() as connection:
        key = await connection.fetchval("SELECT receipt_key FROM installation")
    async with here.api() as http, sending_receipts(here.witness.ledger, http, key, base=here.url, seed=seed) as sender:
        yield sender
