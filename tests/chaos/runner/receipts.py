"""The provider's part of a run: it reports what it accepted, while everything breaks."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from chaos.gateway.receipts import ReceiptSender, sending_receipts
from chaos.runner.environment import Site
from mailing.database.engine import create_engine, sessions, transaction
from mailing.receipts.repository import read_key


@asynccontextmanager
async def reporting(here: Site, *, seed: int) -> AsyncIterator[ReceiptSender]:
    """Send receipts while the block lasts, and at its end what is left."""
    engine = create_engine(here.database.url, application="chaos", pool_size=1)
    async with transaction(sessions(engine)) as session:
        key = await read_key(session)
    await engine.dispose()
    async with (
        here.api() as http,
        sending_receipts(here.witness.ledger, http, key, base=here.receipts_url, seed=seed) as sender,
    ):
        yield sender
