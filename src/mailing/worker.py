"""The worker process: jobs from the queue, the sweep, the report. A composition root."""

import asyncio
from functools import partial

from mailing import db
from mailing.gateway.client import Gateway
from mailing.log import get
from mailing.queue import Queue
from mailing.reports.jobs import send_missing
from mailing.restoration.lookout import looking_out
from mailing.sending.desk import Desk
from mailing.sending.next_step import Policy
from mailing.sending.plan import plan_mailing
from mailing.sending.send import send_mailing
from mailing.sending.settle import settle_mailing
from mailing.sending.sweep import sweep
from mailing.settings import Settings

logger = get(__name__)

JOBS = 16
POOL_SIZE = 10


async def run_worker(settings: Settings, stop: asyncio.Event) -> None:
    """Works until `stop`: calls under way are finished and recorded, what was claimed and not called is given back.

    `settings.database_url` and `settings.gateway_url` must be set.
    """
    url, policy = str(settings.database_url), policy_of(settings)
    engine = db.create_engine(url, application="mailing-worker", pool_size=POOL_SIZE)
    sessions = db.sessions(engine)
    gateway = Gateway(
        base_url=str(settings.gateway_url),
        token=settings.gateway_token,
        timeout_s=settings.gateway_timeout_s,
        concurrency=settings.gateway_concurrency,
    )
    queue = Queue(url, concurrency=JOBS)
    try:
        async with gateway:
            desk = Desk(sessions, gateway, policy, timeout_s=settings.gateway_timeout_s, jobs=JOBS, stopping=stop)
            queue.task("plan_mailing", partial(plan_mailing, sessions))
            queue.task("settle_mailing", partial(settle_mailing, sessions))
            queue.task("send_mailing", partial(send_mailing, desk))
            queue.periodic("sweep", partial(_sweep, queue, sessions, policy), cron="* * * * * */5")
            queue.periodic("report", partial(send_missing, sessions, settings), cron="* * * * *")
            async with looking_out(engine, by="worker"):
                await sweep(sessions, policy)
                logger.info("worker started", gateway=settings.gateway_url, concurrency=gateway.concurrency)
                await queue.run(stop)
    finally:
        await engine.dispose()
    logger.info("worker stopped")


def policy_of(settings: Settings) -> Policy:
    return Policy(hold=settings.on_unknown == "hold", base_s=settings.retry_base_s, max_s=settings.retry_max_s)


async def _sweep(queue: Queue, sessions: db.Sessions, policy: Policy) -> None:
    await sweep(sessions, policy)
    if buried := await queue.bury_stalled():
        logger.warning("stalled jobs buried", jobs=buried)
