"""The worker process: jobs from the queue, the sweep, the report. A composition root."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

from mailing import db, pulse, trouble
from mailing.clients.upload.job import import_upload, tend_uploads
from mailing.gateway import repository
from mailing.gateway.client import Gateway
from mailing.gateway.gate import Gate
from mailing.log import get
from mailing.mailings.repository import database_now
from mailing.messages.audit import audit_counts
from mailing.privacy.retention import blank_old, forget_old_events
from mailing.queue import Queue
from mailing.reports.jobs import send_missing
from mailing.restoration.lookout import looking_out
from mailing.sending.clock import mind_clock
from mailing.sending.desk import Desk
from mailing.sending.next_step import Policy
from mailing.sending.plan import plan_mailing
from mailing.sending.send import send_mailing
from mailing.sending.settle import settle_mailing
from mailing.sending.sweep import Leases, sweep
from mailing.settings import Settings
from mailing.tallies import REPAIRS
from mailing.watchdog import DATABASE, LIMITS, QUEUE, Limits, Watchdog

logger = get(__name__)

JOBS = 16
POOL_SIZE = 10
LIMIT_S = 25  # of a statement; a slice of a plan takes 0.3 s
ASK_EVERY_S = 5


async def run_worker(settings: Settings, stop: asyncio.Event, limits: Limits = LIMITS) -> None:
    """Works until `stop`: calls under way are finished and recorded, what was claimed and not called is given back.

    `settings.database_url` and `settings.gateway_url` must be set. Ends the process where it makes no progress.
    """
    engine = db.create_engine(
        str(settings.database_url), application="mailing-worker", pool_size=POOL_SIZE, limit_s=LIMIT_S
    )
    gateway = Gateway(
        base_url=str(settings.gateway_url),
        token=settings.gateway_token,
        timeout_s=settings.gateway_timeout_s,
        concurrency=settings.gateway_concurrency,
    )
    try:
        with pulse.beating() as alive:
            async with gateway, looking_out(engine, by="worker"):
                sessions = db.sessions(engine)
                gate, timeout_s = Gate(sessions), settings.gateway_timeout_s
                desk = Desk(sessions, gateway, gate, policy_of(settings), timeout_s=timeout_s, jobs=JOBS, stopping=stop)
                await _work(settings, desk, Watchdog(limits, alive=alive))
    finally:
        await engine.dispose()
    logger.info("worker stopped")


async def _work(settings: Settings, desk: Desk, watchdog: Watchdog) -> None:
    sessions, tallies, leases = desk.sessions, desk.tallies, Leases()
    queue = Queue(str(settings.database_url), concurrency=JOBS, answered=partial(watchdog.heard, QUEUE))
    queue.task("plan_mailing", partial(plan_mailing, sessions))
    queue.task("settle_mailing", partial(settle_mailing, sessions))
    queue.task("send_mailing", partial(send_mailing, desk))
    queue.task("import_upload", partial(import_upload, sessions, desk.stopping))
    queue.periodic("sweep", partial(_sweep, queue, desk, leases), cron="* * * * * */5")
    queue.periodic("clock", partial(mind_clock, sessions), cron="* * * * * */5")
    queue.periodic("uploads", partial(tend_uploads, sessions), cron="* * * * * */10")
    queue.periodic("audit", partial(audit_counts, sessions), cron="* * * * *")
    queue.periodic("report", partial(send_missing, sessions, settings), cron="* * * * *")
    queue.periodic("retention", partial(_forget, sessions, settings), cron="17 * * * *")
    async with repository.alone(sessions) as session:
        await repository.configure(session, settings.gateway_rate)
    tallies.add(REPAIRS, "leases", value=await sweep(sessions, desk.policy, leases))
    logger.info("worker started", gateway=settings.gateway_url, concurrency=desk.gateway.concurrency)
    with watchdog.watching():
        async with (
            _beside(desk.gate.keep()),
            _beside(_ask(sessions, watchdog)),
            _beside(tallies.keep(sessions)),
            desk.recording.keeping(),
        ):
            await queue.run(desk.stopping)
    await tallies.hand_over(sessions)


@asynccontextmanager
async def _beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def policy_of(settings: Settings) -> Policy:
    return Policy(hold=settings.on_unknown == "hold", base_s=settings.retry_base_s, max_s=settings.retry_max_s)


async def _ask(sessions: db.Sessions, watchdog: Watchdog) -> None:
    """For an answer all the time, because an idle worker's jobs don't."""
    while True:
        try:
            async with db.transaction(sessions) as session:
                await database_now(session)
            watchdog.heard(DATABASE)
        except Exception as error:  # noqa: BLE001 - told
            trouble.tell(logger, "no answer from the database", error)
        await asyncio.sleep(ASK_EVERY_S)


async def _forget(sessions: db.Sessions, settings: Settings) -> None:
    await blank_old(sessions, settings)
    await forget_old_events(sessions, settings)


async def _sweep(queue: Queue, desk: Desk, leases: Leases) -> None:
    desk.tallies.add(REPAIRS, "leases", value=await sweep(desk.sessions, desk.policy, leases))
    if buried := await queue.bury_stalled():
        desk.tallies.add(REPAIRS, "jobs", value=buried)
        logger.warning("stalled jobs buried", jobs=buried)
