"""Handle receipts and replies in the API process, if its provider sends any."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import cast

from litestar import Litestar

from mailing.database import engine as engine_
from mailing.database.connection_settings import API_LIMIT_S
from mailing.database.engine import create_engine
from mailing.database.read_pool import ReadPool
from mailing.gateway.providers import reporting_providers
from mailing.observability.counters import WorkerCounters
from mailing.receipts.inbox import Inbox
from mailing.receipts.opt_out_words import opt_out_words
from mailing.receipts.routes import ReceiptHandler
from mailing.web.state import AppState

POOL_SIZE = 2  # of receipts only: one that is being stored, and a reply


class ReceiptState(AppState):
    receipt_handler: ReceiptHandler | None


@asynccontextmanager
async def receipt_handler(app: Litestar) -> AsyncIterator[None]:
    """Set `receipt_handler` of the state where receipts are expected. Requests in progress are answered first."""
    state = cast("ReceiptState", app.state)
    settings = state.settings
    if not state.receipts_expected:
        yield
        return
    engine = create_engine(
        str(settings.database_url),
        application="mailing-api",
        pool_size=POOL_SIZE,
        limit_s=API_LIMIT_S,
        wait_s=2,
        reachability=state.reachability,
    )
    sessions, counters = engine_.sessions(engine), WorkerCounters()
    pool = ReadPool(engine)
    inbox = Inbox(pool, counters)
    state.receipt_handler = ReceiptHandler(
        sessions, reporting_providers(settings), opt_out_words(settings.opt_out_words), inbox, counters
    )
    try:
        async with aclosing(pool), asyncio.TaskGroup() as group:
            tasks = [group.create_task(work) for work in (counters.run(sessions), inbox.run())]
            yield
            for task in tasks:
                task.cancel()
        await counters.flush(sessions)
    finally:
        state.receipt_handler = None
        await engine.dispose()
