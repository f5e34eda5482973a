"""The worker process: jobs from the queue, the sweep, the report. A composition root."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncEngine

from mailing.clients.upload.job import import_upload, maintain_uploads
from mailing.database import engine as engine_
from mailing.database.clock import database_now
from mailing.database.connection_settings import WORKER_LIMIT_S
from mailing.database.connections import skip_recent_pings
from mailing.database.engine import Sessions, autocommit, create_engine, in_transaction
from mailing.gateway.client import GatewayClient, Origin
from mailing.gateway.flow_control import FlowControl
from mailing.gateway.providers import holds_unknown, provider_of, receipts_expected
from mailing.gateway.providers.provider import Provider
from mailing.gateway.repository import configure
from mailing.job_queue.worker import GRACE_S, Queue
from mailing.mailings.after_restore import wake_started
from mailing.messages.counter_audit import audit_counts
from mailing.messages.leases import RetryPolicy
from mailing.observability import failures
from mailing.observability.counters import RECOVERED
from mailing.observability.log import get
from mailing.privacy.retention import delete_old_events, redact_old
from mailing.process import heartbeat
from mailing.process.supervisor import worker_grace_s
from mailing.process.watchdog import DATABASE, LIMITS, QUEUE, Limits, Watchdog
from mailing.receipts.address import namespace_of, receipt_path
from mailing.receipts.repository import read_key
from mailing.restore.witness import witnessing
from mailing.sending.clock_steps import adjust_to_clock_steps
from mailing.sending.context import SendContext
from mailing.sending.finalize import settle_mailing
from mailing.sending.plan import plan_mailing
from mailing.sending.revalidation import Revalidator
from mailing.sending.send import send_mailing
from mailing.sending.sweep import sweep
from mailing.sending.timezone_rules import keep_rules_applied
from mailing.settings import Settings

logger = get(__name__)

# Jobs of each queue that run at once; long ones get few.
JOB_LIMITS: Final = {
    "sending": 128,
    "planning": 4,
    "settling": 2,
    "upkeep": 2,
    "reporting": 1,
    "importing": 2,
    "housekeeping": 1,
}
DEFAULT_CONCURRENCY = 2
# Separate connection pools: for flow control and revalidation, which calls wait for; for claims and records; for short
# jobs; for jobs that take long or wait long for a lock.
URGENT_POOL = 2
SENDING_POOL = 4
SHORT_POOL = 3
LONG_POOL = 5
POOL_WAIT_S = 20  # for a connection of the other pools, each held for one transaction
CHECK_INTERVAL_S = 5.0
UPKEEP_CRON = "* * * * * */5"  # of `sweep` and `clock`; the seconds are the last field
FIRST_REPEAT_S = 60  # after a call without a clear answer, if the provider sends receipts: most come within a minute


async def run_worker(settings: Settings, stop: asyncio.Event, limits: Limits = LIMITS) -> None:
    """Work until `stop`. Then finish and record the calls in progress, and release claimed messages not yet called.

    `settings.database_url` and `settings.gateway_url` must be set. End the process if it makes no progress.
    """
    engines = _engines(settings)
    try:
        with heartbeat.beating() as beat:
            lossless = settings.failover == "lossless"
            async with witnessing(*engines, by="worker", wake=wake_started, lossless=lossless) as witness:
                urgent, sending, short, long = map(engine_.sessions, engines)
                async with await _gateway(settings, short) as gateway:
                    context = SendContext(
                        sending,
                        urgent,
                        gateway,
                        FlowControl(urgent),
                        policy_of(settings),
                        timeout_s=settings.gateway_timeout_s,
                        max_jobs=JOB_LIMITS["sending"],
                        stopping=stop,
                        on_claimed=witness.remember,
                        is_settled=lambda: witness.is_settled,
                    )
                    await _work(settings, context, short, long, Watchdog(limits, on_healthy=beat))
    finally:
        for engine in engines:
            await engine.dispose()
    logger.info("worker stopped")


async def _gateway(settings: Settings, sessions: Sessions) -> GatewayClient:
    provider = provider_of(settings)
    key = await in_transaction(sessions, read_key)
    return GatewayClient(
        provider,
        base_url=str(settings.gateway_url),
        timeout_s=settings.gateway_timeout_s,
        concurrency=settings.gateway_concurrency,
        origin=Origin(settings.sender or "", namespace_of(key), _receipt_url(settings, provider, key)),
    )


def _receipt_url(settings: Settings, provider: Provider, key: bytes) -> Callable[[int], str] | None:
    """Return what gives each message its address. None: the provider sends no receipts, or knows one for all."""
    if settings.public_url is None or not provider.sends_receipts or provider.receipts_account_wide:
        return None
    base, name = settings.public_url.rstrip("/"), provider.name
    return lambda message_id: base + receipt_path(key, name, message_id)


def _engines(settings: Settings) -> list[AsyncEngine]:
    """Urgent, sending, short, long."""
    create = partial(create_engine, str(settings.database_url), application="mailing-worker", limit_s=WORKER_LIMIT_S)
    others = [create(pool_size=size, wait_s=POOL_WAIT_S) for size in (SENDING_POOL, SHORT_POOL, LONG_POOL)]
    skip_recent_pings(others[0], within_s=1)  # claims and records are tried again
    return [create(pool_size=URGENT_POOL), *others]


def _report(sessions: Sessions, settings: Settings) -> Callable[[], Coroutine[Any, Any, None]]:
    """Return the job. Without recipients the worker does not load the code of the reports."""
    if settings.report_to is None:
        return _no_report
    from mailing.reports.jobs import send_missing  # noqa: PLC0415 - 5 MB

    return partial(send_missing, sessions, settings)


async def _no_report() -> None:
    """Do nothing: a worker with other settings may have enqueued the job."""


async def _work(settings: Settings, context: SendContext, short: Sessions, long: Sessions, watchdog: Watchdog) -> None:
    counters, revalidator = context.counters, Revalidator(context)
    on_answer = partial(watchdog.beat, QUEUE)
    queue = Queue(
        str(settings.database_url),
        concurrency=DEFAULT_CONCURRENCY,
        limits=JOB_LIMITS,
        grace_s=max(GRACE_S, worker_grace_s(settings.gateway_timeout_s)),
        on_answer=on_answer,
    )
    queue.task("plan_mailing", partial(plan_mailing, long))
    queue.task("settle_mailing", partial(settle_mailing, short))
    queue.task("send_mailing", partial(send_mailing, context, revalidator))
    queue.task("import_upload", partial(import_upload, long, context.stopping))
    queue.periodic("sweep", partial(_sweep, short, queue, context), cron=UPKEEP_CRON)
    queue.periodic("clock", partial(adjust_to_clock_steps, short), cron=UPKEEP_CRON)
    queue.periodic("uploads", partial(maintain_uploads, short), cron="* * * * * */10")
    queue.periodic("audit", partial(audit_counts, long), cron="* * * * *")
    queue.periodic("report", _report(short, settings), cron="* * * * *")
    queue.periodic("retention", partial(_retain, long, settings), cron="17 * * * *")
    async with autocommit(short) as session:
        await configure(session, settings.gateway_rate)
    counters.add(RECOVERED, "leases", value=await sweep(short, context.policy))
    logger.info("worker started", gateway=settings.gateway_url, concurrency=context.gateway.concurrency)
    with watchdog.running():
        async with AsyncExitStack() as background:
            for work in (
                context.flow_control.run(),
                revalidator.run(),
                _check_database(context.urgent, watchdog),
                counters.run(short),
                keep_rules_applied(long),
            ):
                await background.enter_async_context(_background(work))
            await background.enter_async_context(context.recorder.running())
            await queue.run(context.stopping)
    await counters.flush(short)


@asynccontextmanager
async def _background(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def policy_of(settings: Settings) -> RetryPolicy:
    return RetryPolicy(
        hold=holds_unknown(settings),
        base_s=settings.retry_base_s,
        max_s=settings.retry_max_s,
        first_repeat_s=FIRST_REPEAT_S if receipts_expected(settings) else 0,
    )


async def _check_database(sessions: Sessions, watchdog: Watchdog) -> None:
    """Tell the watchdog that the database answers. An idle worker runs no jobs that would do so."""
    while True:
        try:
            await in_transaction(sessions, database_now)
            watchdog.beat(DATABASE)
        except Exception as error:  # noqa: BLE001 - logged
            failures.log(logger, "no answer from the database", error)
        await asyncio.sleep(CHECK_INTERVAL_S)


async def _retain(sessions: Sessions, settings: Settings) -> None:
    await redact_old(sessions, settings)
    await delete_old_events(sessions, settings)


async def _sweep(sessions: Sessions, queue: Queue, context: SendContext) -> None:
    """Right after an outage, nothing is taken from other workers: they are about to record their results."""
    settled = context.is_settled()
    reclaimed = await sweep(sessions, context.policy if settled else None, context.active_mailings)
    context.counters.add(RECOVERED, "leases", value=reclaimed)
    if not settled:
        return
    if stalled := await queue.fail_stalled_jobs():
        context.counters.add(RECOVERED, "jobs", value=stalled)
        logger.warning("stalled jobs removed", jobs=stalled)
