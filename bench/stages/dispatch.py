"""Messages through the gateway by one worker: how many per second, from the start to the last stored result."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from bench import senders
from bench.broker import redis
from bench.lab import Lab
from bench.measure import Goal, Party, Sample, Stage
from bench.senders import CONNECTIONS, Sender, dispatch
from bench.wrk import requests_a_second

MAILING, LOOP = "Mailing", "aiohttp without a database"
CELERY_2, CELERY_4, THREADS = "Celery, 2 processes", "Celery, 4 processes", "Celery, 64 threads"
PROCRASTINATE, PGQUEUER = "a Procrastinate job each", "PGQueuer"
WRK = "wrk against the stub"


@contextmanager
def _parties(lab: Lab) -> Iterator[list[Party]]:
    many, few = lab.count(100_000, quick=2_000), lab.count(2_000, quick=300)

    def party(name: str, count: int, sender: Callable[[], AbstractContextManager[Sender]]) -> Party:
        def measure() -> Sample:
            with sender() as ready:
                return dispatch(lab, ready, count)

        return Party(name, measure)

    def celery(name: str, pool: str, size: int) -> Party:
        return party(name, few, lambda: senders.celery(lab, broker, few, gateway=lab.stub.url, pool=pool, size=size))

    with redis() as broker, senders.planned_mailing(lab, many):
        yield [
            party(MAILING, many, lambda: senders.ours(lab, gateway=lab.stub.url)),
            party(LOOP, many, lambda: senders.aiohttp_loop(lab, many)),
            celery(CELERY_2, "prefork", 2),
            celery(CELERY_4, "prefork", 4),
            celery(THREADS, "threads", CONNECTIONS),
            party(PROCRASTINATE, few, lambda: senders.job_queue(lab, "procrastinate", ["schema", "enqueue"], few)),
            party(PGQUEUER, few, lambda: senders.job_queue(lab, "pgqueuer", ["enqueue"], few)),
            Party(WRK, lambda: Sample(_wrk(lab))),
        ]


def _wrk(lab: Lab) -> float:
    script = lab.directory / "post.lua"
    script.write_text("""wrk.method = "POST"; wrk.headers["Content-Type"] = "application/json"
        wrk.body = '{"id":1,"phone":79161234567,"text":"hello"}'""")
    return requests_a_second(lab, f"{lab.stub.unlogged_url}/send/1", "-s", str(script))


STAGE = Stage(
    name="dispatch",
    title="Dispatch, the gateway answers at once, one worker, 64 connections",
    unit="messages/s",
    parties=_parties,
    needs=("nginx", "redis-server", "wrk"),
    imports=("celery", "pgqueuer", "requests"),
    goals=(
        Goal(MAILING, LOOP, least=0.7),
        Goal(MAILING, CELERY_2, least=12),
        Goal(MAILING, CELERY_4, least=12),
        Goal(MAILING, THREADS, least=12),
        Goal(MAILING, PROCRASTINATE, least=12),
        Goal(MAILING, PGQUEUER, least=3),
        Goal(WRK, LOOP, least=10),
    ),
    notes=(
        "Every message reaches the gateway exactly once, or the run fails: nginx logs their ids.",
        (
            "Celery gets all it can use: connections to the gateway and PostgreSQL that stay open, no results, what "
            "the call needs in the task. A peer's result is one UPDATE; ours is an attempt, counters and a lease too."
        ),
    ),
)
