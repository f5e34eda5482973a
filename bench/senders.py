"""All senders, ready to start: ours, and the peers with the same number of connections."""

import asyncio
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import text

from bench.broker import Redis
from bench.children import Child, complete, running, until
from bench.cost import Meter, memory_mb
from bench.lab import OURS, Lab, mailing
from bench.measure import Sample, per_second
from mailing.database.engine import create_engine, sessions, transaction
from mailing.job_queue.enqueue import defer

CONNECTIONS = 64
PEERS = Path(__file__).parent / "peers"
ROUND = "bench_round"  # the database of a round
ZONES = (
    *("Europe/Kaliningrad", "Europe/Moscow", "Europe/Samara", "Asia/Yekaterinburg", "Asia/Omsk", "Asia/Krasnoyarsk"),
    *("Asia/Irkutsk", "Asia/Yakutsk", "Asia/Vladivostok", "Asia/Magadan", "Asia/Kamchatka"),
)
PLANNED = "bench_planned"  # ours, with a mailing that is not started


@dataclass(frozen=True)
class Sender:
    """`recorded` counts the messages stored as sent; `beside` are processes that it needs."""

    pid: int
    go: Callable[[], None]
    recorded: Callable[[], int]
    beside: Mapping[str, int] = field(default_factory=dict)


def dispatch(lab: Lab, sender: Sender, count: int) -> Sample:
    """Measure until every result is stored. Raise BenchError for a lost or repeated message."""
    groups = {"party": sender.pid, "postgres": lab.cluster.postmaster, "nginx": lab.stub.pid, **sender.beside}
    lab.stub.forget()
    with Meter(groups) as meter:
        sender.go()
        until(lambda: lab.stub.logged() >= count, f"{count} messages at the gateway", every_s=0.05)
        until(lambda: sender.recorded() >= count, f"{count} results in the database")
    memory = memory_mb(sender.pid)
    time.sleep(0.3)  # a repetition would come late, and the log lags
    lab.stub.check(range(1, count + 1))
    return per_second(count, meter, memory)


@contextmanager
def planned_mailing(lab: Lab, count: int) -> Iterator[None]:
    """Create a database to copy, with a paused mailing whose `count` messages are planned and due."""
    with lab.database(PLANNED, like=OURS):
        add_mailing(lab, PLANNED, count)
        lab.vacuum(PLANNED)
        yield


def add_mailing(lab: Lab, database: str, count: int) -> None:
    """Add mailing 1, paused, with a message for each of `count` new clients."""
    add_clients(lab, database, count)
    lab.sql(
        database,
        """INSERT INTO mailing (text, starts_at, ends_at, status, started_at, planned_revision, audience_max_client_id,
               released_revision, released_at, released_by)
           VALUES ('hello', now() - interval '1 h', now() + interval '1 d', 'paused', now(), 1, %(count)s,
               1, now(), 'bench')""",
        """INSERT INTO message (mailing_id, client_id, due_at, closes_at)
           SELECT 1, id, now(), now() + interval '1 d' FROM client ORDER BY id""",
        count=count,
    )


def add_clients(lab: Lab, database: str, count: int) -> None:
    lab.sql(
        database,
        """INSERT INTO client (phone, operator_code, tag, timezone)
           SELECT '79' || lpad(n::text, 9, '0'), '900', 'tag ' || n %% 100, (%(zones)s::text[])[1 + n %% 11]
           FROM generate_series(1, %(count)s) n""",
        count=count,
        zones=list(ZONES),
    )


@contextmanager
def ours(
    lab: Lab,
    *,
    gateway: str,
    processes: int = 1,
    machines: Sequence[Sequence[str]] = ((),),
    host: str = "127.0.0.1",
    settings: Mapping[str, object] | None = None,
) -> Iterator[Sender]:
    """Start `mailing worker`, idle beside the paused mailing; one on each machine.

    A machine is a command prefix. `host` is the address of PostgreSQL as seen from there. `settings` are what differs
    from the defaults.
    """
    command = mailing("worker", *(["--processes", str(processes)] if processes > 1 else []))
    with lab.database(ROUND, like=PLANNED) as url, ExitStack() as workers:
        there = url.replace("127.0.0.1", host)
        given = {"database_url": there, "gateway_url": gateway, "gateway_concurrency": CONNECTIONS}
        environment = lab.mailing(ROUND, **given, **(settings or {}))
        start = partial(running, log=lab.log, env=environment, cwd=lab.directory)
        pids = [workers.enter_context(start([*machine, *command])).pid for machine in machines]
        until(
            lambda: lab.value(ROUND, "SELECT count(*) FROM procrastinate_workers") >= processes * len(pids),
            "workers start",
        )
        time.sleep(1)  # they have started
        yield Sender(
            pids[0],
            go=lambda: asyncio.run(_resume(url)),
            recorded=lambda: lab.value(ROUND, "SELECT sent FROM mailing_counts WHERE mailing_id = 1"),
            beside={f"machine {number}": pid for number, pid in enumerate(pids[1:], 2)},
        )


@contextmanager
def aiohttp_loop(lab: Lab, count: int) -> Iterator[Sender]:
    given = {"url": lab.stub.url, "connections": CONNECTIONS, "count": count}
    with Child("bench.peers.aiohttp_loop", given, lab.log) as child:
        yield Sender(child.pid, go=child.go, recorded=lambda: count)


@contextmanager
def celery(lab: Lab, broker: Redis, count: int, *, gateway: str, pool: str, size: int) -> Iterator[Sender]:
    """Start a worker that consumes no queue yet, and fill a queue with messages."""
    environment = {"BENCH_BROKER": broker.url, "BENCH_DATABASE_URL": lab.url(ROUND), "BENCH_GATEWAY_URL": gateway}
    with peers_messages(lab, count):
        complete("bench.peers.celery_app", {"count": count}, lab.log, environment)
        with celery_worker(lab, environment, pool=pool, size=size) as (pid, control):
            yield Sender(
                pid,
                go=lambda: control.add_consumer("messages"),
                recorded=lambda: _peers_recorded(lab),
                beside={"redis": broker.pid},
            )
        control.purge()


@contextmanager
def celery_worker(lab: Lab, environment: dict[str, str], *, pool: str, size: int) -> Iterator[tuple[int, Any]]:
    """Run a worker that consumes no queue. Yield its process id and Celery's control of it; it answers already."""
    from celery import Celery  # noqa: PLC0415 - a peer, installed only for the benchmark

    command = [sys.executable, "-m", "celery", "-A", "bench.peers.celery_app", "worker", "-l", "WARNING", "-Q", "none"]
    options = ["-P", pool, "-c", str(size), "--without-gossip", "--without-mingle", "--without-heartbeat"]
    control = Celery(broker=environment["BENCH_BROKER"]).control
    with running([*command, *options], lab.log, env=os.environ | environment) as worker:
        until(lambda: bool(control.ping(timeout=1)), "the Celery worker answers")
        yield worker.pid, control


@contextmanager
def job_queue(lab: Lab, name: str, steps: Sequence[str], count: int) -> Iterator[Sender]:
    """Start a worker of `bench.peers.NAME_app`, after the steps that prepare its queue."""
    module = f"bench.peers.{name}_app"
    given = {"database": lab.url(ROUND), "url": lab.stub.url, "connections": CONNECTIONS, "count": count}
    with peers_messages(lab, count):
        for step in steps:
            complete(module, given | {"do": step}, lab.log)
        with Child(module, given | {"do": "work"}, lab.log) as child:
            yield Sender(child.pid, go=child.go, recorded=lambda: _peers_recorded(lab))


@contextmanager
def peers_messages(lab: Lab, count: int) -> Iterator[None]:
    with lab.database(ROUND):
        lab.sql(
            ROUND,
            (PEERS / "message.sql").read_text("utf-8"),
            f"""INSERT INTO message (id, mailing_id, client_id, phone, text)
                SELECT n, 1, n, '79161234567', 'hello' FROM generate_series(1, {count}) n""",
        )
        lab.vacuum(ROUND)
        yield


def _peers_recorded(lab: Lab) -> int:
    return int(lab.value(ROUND, "SELECT count(*) FROM message WHERE status = 'sent'"))


async def _resume(url: str) -> None:
    engine = create_engine(url, application="bench", pool_size=1)
    async with transaction(sessions(engine)) as session:
        await session.execute(text("UPDATE mailing SET status = 'running'"))
        await defer(session, "send_mailing", mailing_id=1, lane=0)
    await engine.dispose()
