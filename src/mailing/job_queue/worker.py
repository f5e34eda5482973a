"""The worker's side of the job queue: Procrastinate.

A job says "look at this now"; what there is to do stands in the tables. A lost or repeated job costs a moment, never
a message. Procrastinate retries no job: whatever fails is found again by the sweep.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import Any, Final

import procrastinate
import psycopg
from procrastinate.connector import Notify
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import DeleteJobCondition, Status
from psycopg import conninfo

from mailing import failpoints
from mailing.database.connections import CONNECT_S, KEEPALIVE, LOST_S, pins
from mailing.job_queue.enqueue import COMMON, queue_of
from mailing.job_queue.lanes import FetchingWorker
from mailing.job_queue.periodic import Ticks
from mailing.observability import log, tracing

logger = log.get(__name__)

Handler = Callable[..., Awaitable[None]]
Connection = psycopg.AsyncConnection[Any]
Cursor = psycopg.AsyncCursor[dict[str, Any]]


def _nothing() -> None:
    pass


_NONE: Final[Mapping[str, int]] = {}


class Queue:
    """The worker's side. Handlers are registered by name before `run`; `answered` is called at each answer it gets.

    So many jobs of a queue run side by side as `limits` says, and `concurrency` of the common one.
    Without the database for about twice `patience_s` it gives up, and whatever started the process starts it again.
    """

    def __init__(
        self,
        database_url: str,
        *,
        concurrency: int,
        limits: Mapping[str, int] = _NONE,
        patience_s: float = 10,
        answered: Callable[[], None] = _nothing,
    ) -> None:
        url = conninfo.make_conninfo(
            database_url,
            application_name="mailing-queue",
            connect_timeout=CONNECT_S,
            keepalives_idle=KEEPALIVE["idle"],
            keepalives_interval=KEEPALIVE["interval"],
            keepalives_count=KEEPALIVE["count"],
            tcp_user_timeout=LOST_S * 1000,
        )
        self._connector = _Connector(answered, url, patience_s)
        self._app = procrastinate.App(connector=self._connector)
        self._ticks = Ticks(self._connector)
        self._limits = {COMMON: concurrency, **limits}

    def task(self, name: str, handler: Handler) -> None:

        async def work(
            context: procrastinate.JobContext, /, trace: Mapping[str, str] | None = None, **args: int
        ) -> None:
            with _line(name, context, trace or {}, **args):
                await handler(**args)

        self._app.task(name=name, queue=queue_of(name), pass_context=True)(work)

    def periodic(self, name: str, handler: Callable[[], Awaitable[None]], *, cron: str) -> None:
        """`cron` has five fields, or six with the seconds last; a tick while its twin is still queued is left out."""

        async def tick(context: procrastinate.JobContext, timestamp: int) -> None:  # noqa: ARG001 - Procrastinate passes it
            with _line(name, context, {}):
                await handler()

        task = self._app.task(name=name, queue=queue_of(name), queueing_lock=name, pass_context=True)(tick)
        self._ticks.add(task, cron)

    async def run(self, stop: asyncio.Event) -> None:
        """Works until `stop` and waits for jobs under way. Sets `stop`, and raises, when the database stays away."""
        async with self._app.open_async():
            worker = FetchingWorker(
                self._app,
                self._limits,
                self._ticks,
                fetch_job_polling_interval=1.0,  # how late a job scheduled for later may start
                delete_jobs=DeleteJobCondition.ALWAYS,
                install_signal_handlers=False,
                shutdown_graceful_timeout=30,
                stalled_worker_timeout=86_400,  # one that only froze is still known when it thaws
            )
            working = asyncio.create_task(worker.run())
            await _first_of(working, stop.wait(), self._connector.given_up.wait())
            if not stop.is_set():
                stop.set()
                await working
                raise RuntimeError("the queue's worker ended by itself; its log says why")
            # not cancelled: that may be lost in the middle of a statement, and it would work on for ever
            worker.stop()  # type: ignore[no-untyped-call] # Procrastinate's
            failpoints.reached("stop.draining")
            await asyncio.gather(working, return_exceptions=True)

    async def fail_stalled_jobs(self) -> int:
        """Jobs whose worker is gone are taken off the table: the sweep wakes whatever still has to be done."""
        stalled: list[Any] = list(await self._app.job_manager.get_stalled_jobs(seconds_since_heartbeat=60))
        for job in stalled:
            await self._app.job_manager.finish_job(job, status=Status.FAILED, delete_job=True)
        return len(stalled)


@contextmanager
def _line(task: str, context: procrastinate.JobContext, carried: Mapping[str, str], **ids: int) -> Iterator[None]:
    """One line and one span for a job; of those that come by themselves and found nothing to do a line at debug level.

    `carried` by whoever enqueued it: the trace it belongs to.
    """
    with tracing.job(task, carried) as span, log.log_scope(job_id=context.job.id, **ids) as line:
        outcome = "failed"
        try:
            yield
            outcome = "done"
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            told = {"task": task, "outcome": outcome, "duration_ms": line.duration_ms}
            idle = not (ids or line.counts or outcome == "failed")
            (logger.debug if idle else logger.info)("job", **(told | line.told | line.counts))
            span.tell(job_id=context.job.id, outcome=outcome, **(ids | line.told | line.counts))


async def _configure(limit_s: float, connection: Connection) -> None:
    """One statement an operation instead of BEGIN, the statement and COMMIT."""
    await connection.set_autocommit(True)
    await connection.execute(pins(limit_s).encode())


async def _first_of(task: asyncio.Task[None], *others: Coroutine[Any, Any, object]) -> None:
    """Waits for one of them; `task` goes on."""
    waiting = [asyncio.create_task(other) for other in others]
    await asyncio.wait({task, *waiting}, return_when=asyncio.FIRST_COMPLETED)
    for each in waiting:
        each.cancel()


class _Connector(procrastinate.PsycopgConnector):
    """Says when it was answered; `given_up` is set when the worker ends, before it waits for its jobs."""

    def __init__(self, answered: Callable[[], None], url: str, patience_s: float) -> None:
        configure = partial(_configure, 2 * patience_s)
        super().__init__(conninfo=url, min_size=1, max_size=4, timeout=patience_s, configure=configure)
        self._answered = answered
        self._patience_s = patience_s
        self.given_up = asyncio.Event()

    @asynccontextmanager
    async def _get_cursor(self, connection: Connection | None = None) -> AsyncGenerator[Cursor]:
        """Every statement goes through here; one that is never answered would stop the worker without a word."""
        async with asyncio.timeout(2 * self._patience_s), super()._get_cursor(connection) as cursor:
            yield cursor
        self._answered()

    async def listen_notify(self, on_notification: Notify, channels: Iterable[str]) -> None:
        """Without it jobs are found a second later, so its loss is no reason to end."""
        try:
            while True:
                with suppress(ConnectorException):
                    await super().listen_notify(on_notification, channels)
                await asyncio.sleep(1)
        finally:
            self.given_up.set()
