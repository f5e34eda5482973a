import asyncio
import gc
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime

import pytest

from mailing.job_queue.worker import Queue
from mailing.settings import Settings
from support import loop_time
from support.database import Database
from support.jobs import enqueue, jobs
from support.logs import logged
from support.loop_time import advance
from support.processes import becomes, until
from support.proxy import proxy

LISTENING = "FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND datname = current_database()"
HEARTBEAT_S = 10  # Procrastinate's interval
LATER = datetime(2030, 1, 1, 12, 0, 0, 250_000, tzinfo=UTC)


@asynccontextmanager
async def working(queue: Queue) -> AsyncIterator[asyncio.Event]:
    """Run the queue's worker; at the end it is stopped and has to stop soon."""
    stop = asyncio.Event()
    worker = asyncio.create_task(queue.run(stop))
    yield stop
    stop.set()
    await asyncio.wait_for(worker, 5)


def ticking(database_url: str, ticks: asyncio.Queue[None]) -> Queue:
    """Return a queue with a job that runs every second and puts a tick."""

    async def tick() -> None:
        await ticks.put(None)

    queue = Queue(database_url, concurrency=1)
    queue.periodic("tick", tick, cron="* * * * * */1")
    return queue


def noting(database_url: str, task: str, called: asyncio.Queue[int], **limits: int) -> Queue:
    """Return a queue whose jobs of one task put the mailing's id."""

    async def handler(mailing_id: int) -> None:
        await called.put(mailing_id)

    queue = Queue(database_url, concurrency=1, limits=limits)
    queue.task(task, handler)
    return queue


async def test_a_job_runs_with_its_arguments_and_leaves_the_table(db: Database, database_url: str) -> None:
    called: asyncio.Queue[dict[str, int]] = asyncio.Queue()

    async def handler(**args: int) -> None:
        await called.put(args)

    queue = Queue(database_url, concurrency=2)
    queue.task("send", handler)
    await enqueue(db, "send", mailing_id=1, lane=3)
    await enqueue(db, "send", at=LATER, mailing_id=7, lane=0)
    async with working(queue):
        assert await asyncio.wait_for(called.get(), 5) == {"mailing_id": 1, "lane": 3}
        await enqueue(db, "send", mailing_id=2, lane=0)
        assert await asyncio.wait_for(called.get(), 5) == {"mailing_id": 2, "lane": 0}
        await becomes(lambda: jobs(db), [("send", {"mailing_id": 7, "lane": 0}, LATER, "todo")])
    assert called.empty(), "what is for later is not done now"


async def test_a_job_that_fails_is_gone_and_the_next_one_runs(db: Database, database_url: str) -> None:
    done = asyncio.Event()

    async def handler(mailing_id: int) -> None:
        if mailing_id == 1:
            raise RuntimeError("as a bug would")
        done.set()

    queue = Queue(database_url, concurrency=1)
    queue.task("plan", handler)
    for mailing_id in (1, 2):
        await enqueue(db, mailing_id=mailing_id)
    await enqueue(db, "nobody_knows_it", mailing_id=3)
    async with working(queue):
        await asyncio.wait_for(done.wait(), 5)
        await becomes(lambda: jobs(db), [])


async def test_a_job_whose_database_goes_away_says_so_in_its_line_and_without_a_traceback(
    db: Database, database_url: str, settings: Settings
) -> None:
    async def handler(mailing_id: int) -> None:  # noqa: ARG001 - as each handler
        async with asyncio.TaskGroup() as group:  # as a plan does
            group.create_task(
                db.run("DO $$ BEGIN RAISE EXCEPTION 'restarted' USING ERRCODE = 'admin_shutdown'; END $$")
            )

    queue = Queue(database_url, concurrency=1)
    queue.task("plan", handler)
    await enqueue(db, mailing_id=1)
    with logged(settings) as lines:
        async with working(queue):
            await becomes(lambda: jobs(db), [])
        (line,) = lines("job")
        assert (line["level"], line["outcome"], line["mailing_id"]) == ("warning", "failed", 1)
        assert line["error"] == "AdminShutdownError"
        assert {each["level"] for each in lines()} <= {"debug", "info", "warning"}


async def test_a_job_that_was_removed_while_it_ran_ends_like_any_other(
    db: Database, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Another worker takes a frozen one for lost. Once thawed, that one told of it with a traceback when it ended."""
    removed = asyncio.Event()

    async def handler(mailing_id: int) -> None:
        await db.run("DELETE FROM procrastinate_jobs WHERE args->>'mailing_id' = :id", id=str(mailing_id))
        removed.set()

    queue = Queue(database_url, concurrency=1)
    queue.task("plan", handler)
    await enqueue(db, mailing_id=1)
    async with working(queue):
        await asyncio.wait_for(removed.wait(), 5)
    gc.collect()
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []


@pytest.mark.parametrize("hours", [-1, 1])
async def test_periodic_jobs_go_on_when_the_workers_clock_steps(
    database_url: str, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    ticks: asyncio.Queue[None] = asyncio.Queue()
    real = time.time
    async with working(ticking(database_url, ticks)), asyncio.timeout(15):
        await ticks.get()
        monkeypatch.setattr(time, "time", lambda: real() + hours * 3600)
        for _ in range(3):
            await ticks.get()


async def test_periodic_jobs_go_on_when_the_databases_clock_went_back(db: Database, database_url: str) -> None:
    """What it had enqueued last then lies ahead."""
    ticks: asyncio.Queue[None] = asyncio.Queue()
    await db.run(
        """INSERT INTO procrastinate_periodic_defers (task_name, periodic_id, defer_timestamp)
        VALUES ('tick', '', extract(epoch FROM now())::bigint + 3600)"""
    )
    async with working(ticking(database_url, ticks)), asyncio.timeout(15):
        for _ in range(3):
            await ticks.get()


async def test_of_several_workers_one_enqueues_a_tick(db: Database, database_url: str) -> None:
    ticks: asyncio.Queue[None] = asyncio.Queue()
    now = "SELECT extract(epoch FROM clock_timestamp())"
    began = await db.value(now)
    async with AsyncExitStack() as stack, asyncio.timeout(20):
        for _ in range(3):
            await stack.enter_async_context(working(ticking(database_url, ticks)))
        for _ in range(4):
            await ticks.get()
    passed = await db.value(now) - began
    assert ticks.qsize() + 4 <= passed + 2


async def test_a_stop_waits_for_the_job_under_way_and_for_nothing_else(db: Database, database_url: str) -> None:
    began, may_end, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def handler(mailing_id: int) -> None:
        del mailing_id
        began.set()
        await may_end.wait()
        ended.set()

    queue = Queue(database_url, concurrency=1)
    queue.task("plan", handler)
    for mailing_id in (1, 2):
        await enqueue(db, mailing_id=mailing_id)
    async with asyncio.timeout(5), working(queue) as stop:
        await began.wait()
        stop.set()
        await asyncio.sleep(0.2)
        assert not ended.is_set()
        may_end.set()
    assert ended.is_set()
    assert await jobs(db) == [("plan", {"mailing_id": 2}, None, "todo")]


async def test_an_idle_worker_stops_at_once_however_young(database_url: str) -> None:
    for age_s in (0, 0.05, 0.5):
        async with working(Queue(database_url, concurrency=1)):
            await asyncio.sleep(age_s)
            began = time.monotonic()
        assert time.monotonic() - began < 10


async def test_jobs_of_a_lost_worker_are_buried_and_those_of_a_living_one_are_not(
    db: Database, database_url: str
) -> None:
    for mailing_id in (1, 2, 3):
        await enqueue(db, mailing_id=mailing_id)
    await db.run("INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now()), (now() - interval '2 min')")
    await db.run(
        """UPDATE procrastinate_jobs j SET status = 'doing', worker_id = w.id
        FROM (SELECT id, row_number() OVER (ORDER BY id) AS n FROM procrastinate_workers) w
        WHERE w.n = (j.args->>'mailing_id')::int"""
    )
    buried: asyncio.Queue[int] = asyncio.Queue()

    async def bury(mailing_id: int) -> None:
        del mailing_id
        await buried.put(await queue.fail_stalled_jobs())

    queue = Queue(database_url, concurrency=1)
    queue.task("plan", bury)
    async with working(queue):
        assert await asyncio.wait_for(buried.get(), 5) == 1
        await becomes(lambda: jobs(db), [("plan", {"mailing_id": 1}, None, "doing")])


async def test_jobs_of_one_queue_fill_their_places_and_take_none_of_another_ones(
    db: Database, database_url: str
) -> None:
    planned: asyncio.Queue[int] = asyncio.Queue()
    may_end, sent = asyncio.Event(), asyncio.Event()

    async def plan(mailing_id: int) -> None:
        await planned.put(mailing_id)
        await may_end.wait()

    async def send(mailing_id: int) -> None:
        del mailing_id
        sent.set()

    queue = Queue(database_url, concurrency=1, limits={"planning": 2, "sending": 1})
    queue.task("plan_mailing", plan)
    queue.task("send_mailing", send)
    for mailing_id in range(5):
        await enqueue(db, "plan_mailing", mailing_id=mailing_id)
    async with working(queue):
        assert [await asyncio.wait_for(planned.get(), 5) for _ in range(2)] == [0, 1]
        await enqueue(db, "send_mailing", mailing_id=9)
        await asyncio.wait_for(sent.wait(), 5)
        assert planned.empty(), "no third one beside the two"
        may_end.set()
        assert [await asyncio.wait_for(planned.get(), 5) for _ in range(3)] == [2, 3, 4]


async def test_what_a_process_enqueues_that_knows_one_queue_is_done_too(db: Database, database_url: str) -> None:
    """It began before the update, and its job keeps its twin out of the new queue."""
    planned: asyncio.Queue[int] = asyncio.Queue()
    await enqueue(db, "plan_mailing", mailing_id=7)
    await db.run("UPDATE procrastinate_jobs SET queue_name = 'mailing'")
    await enqueue(db, "plan_mailing", mailing_id=7)
    async with working(noting(database_url, "plan_mailing", planned, planning=1)):
        assert await asyncio.wait_for(planned.get(), 5) == 7
        await becomes(lambda: jobs(db), [])


@pytest.mark.parametrize("vanish", ["stop", "freeze"])
async def test_a_worker_whose_database_goes_away_asks_its_jobs_to_end_and_raises(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, vanish: str
) -> None:
    stop = asyncio.Event()
    # psycopg gives the cancellation of a statement 5 s, and the statement 5 s to end
    monkeypatch.setattr("psycopg.waiting.monotonic", loop_time.now)
    async with proxy(settings) as (between, through):
        worker = asyncio.create_task(Queue(str(through.database_url), concurrency=1, timeout_s=0.3).run(stop))
        await asyncio.sleep(0.5)
        assert not worker.done()
        if vanish == "stop":
            await between.stop()
        else:
            between.freeze()

        def a_second_later(holds: Callable[[], bool]) -> bool:
            advance(1)
            return holds()

        await until(lambda: a_second_later(stop.is_set))
        await until(lambda: a_second_later(worker.done))
        with pytest.raises(Exception, match=r"Database error|ended unexpectedly|^$"):
            await worker


async def test_a_worker_that_can_not_say_that_it_is_there_ends(db: Database, database_url: str) -> None:
    """Its jobs would be taken for lost, and done by others too."""
    stop = asyncio.Event()
    worker = asyncio.create_task(Queue(database_url, concurrency=1).run(stop))
    await db.comes(f"SELECT count(*) {LISTENING}", 1)
    await db.run("ALTER FUNCTION procrastinate_update_heartbeat_v1 RENAME TO gone")
    advance(HEARTBEAT_S)
    await asyncio.wait_for(stop.wait(), 60)
    with pytest.raises(RuntimeError, match="ended unexpectedly"):
        await worker


async def test_a_worker_that_lost_its_notifications_alone_goes_on(db: Database, database_url: str) -> None:
    called: asyncio.Queue[int] = asyncio.Queue()
    async with working(noting(database_url, "plan", called)) as stop:
        await db.comes(f"SELECT count(*) {LISTENING}", 1)
        await db.run(f"SELECT pg_terminate_backend(pid) {LISTENING}")
        await enqueue(db, mailing_id=1)
        assert await asyncio.wait_for(called.get(), 30) == 1
        await db.comes(f"SELECT count(*) {LISTENING}", 1)
        assert not stop.is_set()
