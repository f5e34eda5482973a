"""The worker's side of the job queue, on Procrastinate.

A job only says that there may be work now; the work itself is in the tables. A lost or repeated job costs time, never a
message. Procrastinate retries no job: the sweep finds unfinished work again.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import Any, Final, LiteralString, TypeVar

import procrastinate
import psycopg
from procrastinate.connector import Notify
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import DeleteJobCondition, Status
from psycopg import conninfo

from mailing import failpoints
from mailing.database.address import Address, parse
from mailing.database.connection_settings import first_statements
from mailing.database.connections import KEEPALIVE, UNACKED_TIMEOUT_S
from mailing.database.connector import psycopg_arguments
from mailing.database.errors import cause, transient
from mailing.job_queue.enqueue import COMMON, queue_of
from mailing.job_queue.lanes import FetchingWorker
from mailing.job_queue.periodic import PeriodicScheduler
from mailing.observability import log, tracing

logger = log.get(__name__)

Handler = Callable[..., Awaitable[None]]
Connection = psycopg.AsyncConnection[Any]
Cursor = psycopg.AsyncCursor[dict[str, Any]]
T = TypeVar("T")

MAX_OUTAGE: Final = 8  # times the limit of a statement
RETRY_S: Final = 0.5
GRACE_S: Final = 30.0  # for jobs when the process ends
POOL_WAIT_S: Final = 3  # for a connection, before the next attempt


_NONE: Final[Mapping[str, int]] = {}


class Queue:
    """Run jobs with the handlers registered by name before `run`. After `stop`, those that run have `grace_s` to end.

    `limits` is the number of concurrent jobs of each queue, `concurrency` that of the common queue. `on_answer` is
    called whenever the database answers. Each statement has `timeout_s`, and is repeated while the database is away: a
    failover takes a while. After MAX_OUTAGE times as long, `run` raises.
    """

    def __init__(
        self,
        database_url: str,
        *,
        concurrency: int,
        limits: Mapping[str, int] = _NONE,
        timeout_s: float = 10,
        grace_s: float = GRACE_S,
        on_answer: Callable[[], None] = lambda: None,
    ) -> None:
        address = parse(database_url)
        url = conninfo.make_conninfo(
            **psycopg_arguments(address, application="mailing-queue"),
            keepalives_idle=KEEPALIVE["idle"],
            keepalives_interval=KEEPALIVE["interval"],
            keepalives_count=KEEPALIVE["count"],
            tcp_user_timeout=UNACKED_TIMEOUT_S * 1000,
        )
        self._connector = _Connector(on_answer, url, timeout_s, address)
        self._app = procrastinate.App(connector=self._connector)
        self._scheduler = PeriodicScheduler(self._connector)
        self._limits = {COMMON: concurrency, **limits}
        self._grace_s = grace_s

    def task(self, name: str, handler: Handler) -> None:

        async def work(
            context: procrastinate.JobContext, /, trace: Mapping[str, str] | None = None, **args: int
        ) -> None:
            with _recorded(name, context, trace or {}, **args):
                await handler(**args)

        self._app.task(name=name, queue=queue_of(name), pass_context=True)(work)

    def periodic(self, name: str, handler: Callable[[], Awaitable[None]], *, cron: str) -> None:
        """Register a periodic job. `cron` has five fields, or six with the seconds last.

        A tick is skipped while the job of an earlier tick is still queued.
        """

        async def tick(context: procrastinate.JobContext, timestamp: int) -> None:  # noqa: ARG001 - Procrastinate passes it
            with _recorded(name, context, {}):
                await handler()

        task = self._app.task(name=name, queue=queue_of(name), queueing_lock=name, pass_context=True)(tick)
        self._scheduler.add(task, cron)

    async def run(self, stop: asyncio.Event) -> None:
        """Run until `stop`, then wait for running jobs. If the database stays unavailable, set `stop` and raise."""
        self._connector.stopping = stop
        async with self._app.open_async():
            worker = FetchingWorker(
                self._app,
                self._limits,
                self._scheduler,
                fetch_job_polling_interval=1.0,  # the most by which a scheduled job starts late
                delete_jobs=DeleteJobCondition.ALWAYS,
                install_signal_handlers=False,
                shutdown_graceful_timeout=self._grace_s,
                stalled_worker_timeout=86_400,  # a worker that only froze is still registered when it thaws
            )
            working = asyncio.create_task(worker.run())  # type: ignore[no-untyped-call] # Procrastinate's
            await _first_of(working, stop.wait(), self._connector.given_up.wait())
            if not stop.is_set():
                stop.set()
                await working
                raise RuntimeError("the queue's worker ended unexpectedly; see its log")
            # not cancelled: a cancellation may be lost in the middle of a statement, and the worker would never end
            worker.stop()  # type: ignore[no-untyped-call] # Procrastinate's
            failpoints.hit("stop.draining")
            await asyncio.gather(working, return_exceptions=True)

    async def fail_stalled_jobs(self) -> int:
        """Remove jobs whose worker is gone, and return how many: the sweep enqueues what remains to be done."""
        stalled: list[Any] = list(await self._app.job_manager.get_stalled_jobs(seconds_since_heartbeat=60))
        for job in stalled:
            await self._app.job_manager.finish_job(job, status=Status.FAILED, delete_job=True)
        return len(stalled)


@contextmanager
def _recorded(task: str, context: procrastinate.JobContext, carried: Mapping[str, str], **ids: int) -> Iterator[None]:
    """Write one log line and one span for a job. A periodic job that found nothing to do logs at debug level.

    `carried` is the trace context of the code that enqueued the job.
    """
    with tracing.job(task, carried) as span, log.WideEvent(job_id=context.job.id, **ids) as line:
        outcome = "failed"
        try:
            yield
            outcome = "done"
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        except transient() as error:  # the sweep does what is left; Procrastinate would log a traceback
            line.fields["error"] = type(cause(error)).__name__
        finally:
            fields = {"task": task, "outcome": outcome, "duration_ms": line.duration_ms}
            idle = not (ids or line.counts or outcome == "failed")
            write = logger.debug if idle else logger.warning if "error" in line.fields else logger.info
            write("job", **(fields | line.fields | line.counts))
            span.set(job_id=context.job.id, outcome=outcome, **(ids | line.fields | line.counts))


async def _configure(set_up: str, connection: Connection) -> None:
    """Set up a connection. Autocommit makes each operation one statement, without BEGIN and COMMIT."""
    await connection.set_autocommit(True)
    await connection.execute(set_up.encode())


async def _first_of(task: asyncio.Task[None], *others: Coroutine[Any, Any, object]) -> None:
    """Wait for the first of them to end. `task` is not cancelled."""
    waiting = [asyncio.create_task(other) for other in others]
    await asyncio.wait({task, *waiting}, return_when=asyncio.FIRST_COMPLETED)
    for each in waiting:
        each.cancel()


def _is_away(error: Exception) -> bool:
    """Whether the database may come back, as after a failover. A standby that is not promoted yet is read-only."""
    lost = (psycopg.OperationalError, psycopg.InterfaceError, psycopg.errors.ReadOnlySqlTransaction)
    return isinstance(error, TimeoutError) or isinstance(error.__cause__, lost)


class _Connector(procrastinate.PsycopgConnector):
    """Report when the database answers, and wait while it is away; Procrastinate's worker would end.

    `given_up` is set when the worker ends, before it waits for its jobs. Nothing waits after `stopping`.
    """

    def __init__(self, on_answer: Callable[[], None], url: str, timeout_s: float, address: Address) -> None:
        configure = partial(_configure, first_statements(address, limit_s=2 * timeout_s))
        super().__init__(
            conninfo=url,
            min_size=1,
            max_size=4,
            timeout=min(timeout_s, POOL_WAIT_S),
            reconnect_timeout=POOL_WAIT_S,  # the pool's own retries come at ever longer intervals
            configure=configure,
            kwargs={"prepare_threshold": None} if address.is_pooled else {},
        )
        self._is_pooled = address.is_pooled
        self._on_answer = on_answer
        self._timeout_s = timeout_s
        self.given_up = asyncio.Event()
        self.stopping = asyncio.Event()

    async def execute_query_async(self, query: LiteralString, **arguments: Any) -> None:  # noqa: ANN401 - Procrastinate's
        """Execute a statement. It is no error if it ends a job that is gone.

        Another worker removed the job while this process was frozen, or the answer to the first attempt was lost.
        """
        try:
            await self._retry_while_away(partial(super().execute_query_async, query, **arguments))
        except ConnectorException as error:
            if not isinstance(error.__cause__, psycopg.errors.RaiseException):  # only of Procrastinate's functions
                raise

    async def execute_query_one_async(self, query: LiteralString, **arguments: Any) -> dict[str, Any]:  # noqa: ANN401 - as above
        return await self._retry_while_away(partial(super().execute_query_one_async, query, **arguments))

    async def execute_query_all_async(self, query: LiteralString, **arguments: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - as above
        return await self._retry_while_away(partial(super().execute_query_all_async, query, **arguments))

    async def _retry_while_away(self, execute: Callable[[], Awaitable[T]]) -> T:
        give_up_at = time.monotonic() + MAX_OUTAGE * self._timeout_s
        while True:
            try:
                return await execute()
            except (ConnectorException, TimeoutError) as error:
                if not _is_away(error) or self.stopping.is_set() or time.monotonic() >= give_up_at:
                    raise
            await asyncio.sleep(RETRY_S)

    @asynccontextmanager
    async def _get_cursor(self, connection: Connection | None = None) -> AsyncGenerator[Cursor]:
        """Bound every statement: one that is never answered would stop the worker silently.

        A connection that only reads is dropped: it keeps its default_transaction_read_only when that is reset.
        """
        async with asyncio.timeout(2 * self._timeout_s), super()._get_cursor(connection) as cursor:
            try:
                yield cursor
            except psycopg.errors.ReadOnlySqlTransaction:
                await cursor.connection.close()
                raise
        self._on_answer()

    async def listen_notify(self, on_notification: Notify, channels: Iterable[str]) -> None:
        """Listen again after an error. Without notifications, as behind PgBouncer, jobs are polled for."""
        try:
            if self._is_pooled:
                await asyncio.Event().wait()
            while True:
                with suppress(ConnectorException):
                    await super().listen_notify(on_notification, channels)
                await asyncio.sleep(1)
        finally:
            self.given_up.set()
