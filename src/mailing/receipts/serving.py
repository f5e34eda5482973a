"""The API process's part: it takes receipts and replies while it runs, if its provider sends any."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from litestar import Litestar

from mailing.database import engine as engine_
from mailing.database.engine import create_engine
from mailing.gateway.providers import provider_of, receipts_expected
from mailing.observability.counters import WorkerCounters
from mailing.receipts.inbox import Inbox
from mailing.receipts.opt_out_words import opt_out_words
from mailing.receipts.routes import ReceiptDesk
from mailing.settings import Settings

POOL_SIZE = 2  # of receipts only: one that is being stored, and a reply
STATEMENT_TIMEOUT_S = 10


@asynccontextmanager
async def receipt_desk(app: Litestar) -> AsyncIterator[None]:
    """Set `app.state.receipt_desk`; None where no receipts are expected. Requests in progress are answered first."""
    settings: Settings = app.state.settings
    app.state.receipt_desk = None
    if not receipts_expected(settings):
        yield
        return
    engine = create_engine(
        str(settings.database_url),
        application="mailing-api",
        pool_size=POOL_SIZE,
        limit_s=STATEMENT_TIMEOUT_S,
        wait_s=2,
        reachability=app.state.reachability,
    )
    sessions, counters = engine_.sessions(engine), WorkerCounters()
    inbox = Inbox(sessions, counters)
    app.state.receipt_desk = ReceiptDesk(
        sessions, provider_of(settings), opt_out_words(settings.opt_out_words), inbox, counters
    )
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work) for work in (counters.run(sessions), inbox.run())]
            yield
            for task in tasks:
                task.cancel()
        await counters.flush(sessions)
    finally:
        app.state.receipt_desk = None
        await engine.dispose()
