"""A gateway with a latency of 50 ms: 64 connections can send at most 1,280 messages per second."""

from collections.abc import Iterator
from contextlib import contextmanager

from bench import senders
from bench.broker import Redis, redis
from bench.cost import memory_mb
from bench.lab import Lab
from bench.measure import Goal, Party, Sample, Stage
from bench.senders import CONNECTIONS, dispatch
from bench.stub import DELAY_S

MAILING, LIMIT = "Mailing", "64 connections / 50 ms"
PREFORK, THREADS = "Celery, processes in the same memory", "Celery, 64 threads"


@contextmanager
def _parties(lab: Lab) -> Iterator[list[Party]]:
    count, few = lab.count(40_000, quick=1_000), lab.count(500, quick=100)
    ours_mb: list[float] = []

    def ours() -> Sample:
        with senders.ours(lab, gateway=lab.stub.slow_url) as sender:
            sample = dispatch(lab, sender, count)
        ours_mb.append(sample.memory_mb or 0)
        return sample

    def prefork() -> Sample:
        size = _processes_in(lab, broker, ours_mb[-1])
        with senders.celery(lab, broker, few, gateway=lab.stub.slow_url, pool="prefork", size=size) as sender:
            return dispatch(lab, sender, few)

    def threads() -> Sample:
        many = 5 * few
        gateway = lab.stub.slow_url
        with senders.celery(lab, broker, many, gateway=gateway, pool="threads", size=CONNECTIONS) as sender:
            return dispatch(lab, sender, many)

    with redis() as broker, senders.planned_mailing(lab, count):
        yield [
            Party(MAILING, ours),
            Party(LIMIT, lambda: Sample(CONNECTIONS / DELAY_S)),
            Party(PREFORK, prefork),
            Party(THREADS, threads),
        ]


def _processes_in(lab: Lab, broker: Redis, memory: float) -> int:
    """Compute how many Celery processes fit in `memory` MB, at least 1, from idle workers with 1 and with 3."""
    one, three = _idle_mb(lab, broker, 1), _idle_mb(lab, broker, 3)
    each = (three - one) / 2
    return max(1, int(1 + (memory - one) / each))


def _idle_mb(lab: Lab, broker: Redis, size: int) -> float:
    with senders.celery_worker(lab, {"BENCH_BROKER": broker.url}, pool="prefork", size=size) as (pid, _):
        return memory_mb(pid)


STAGE = Stage(
    name="dispatch-slow",
    title="Dispatch, the gateway answers in 50 ms, one worker, 64 connections",
    unit="messages/s",
    parties=_parties,
    needs=("nginx", "redis-server"),
    imports=("celery", "requests"),
    goals=(
        Goal(MAILING, LIMIT, least=0.95),
        Goal(MAILING, PREFORK, least=5),
        Goal(MAILING, THREADS, least=5),
    ),
    notes=(
        (
            "Memory is of the whole worker under work, pages shared by its processes counted once. Celery's processes "
            "are as many as fit, idle, into the memory of our worker."
        ),
        "nginx waits by its echo module.",
    ),
)
