"""The start of a mailing to all clients: how many messages per second are planned or enqueued."""

from collections.abc import Iterator
from contextlib import contextmanager

from bench import senders
from bench.broker import redis
from bench.children import Child, complete
from bench.cost import Meter
from bench.lab import OURS, Lab
from bench.measure import Goal, Party, Sample, Stage, per_second
from bench.senders import ROUND

MAILING, BARE, WHOLE = "Mailing", "one INSERT … SELECT, bare table", "one INSERT … SELECT, our table"
CELERY, PROCRASTINATE = "Celery, delay", "Procrastinate, batch_defer"
AUDIENCE = "bench_audience"

_BARE_TABLE = """
    CREATE TABLE bare (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, mailing_id bigint NOT NULL, client_id bigint NOT NULL,
        status text NOT NULL DEFAULT 'pending', due_at timestamptz NOT NULL, closes_at timestamptz NOT NULL,
        UNIQUE (client_id, mailing_id))
"""
_INSERT = """
    INSERT INTO {table} (mailing_id, client_id, due_at, closes_at)
    SELECT 1, id, now(), now() + interval '1 d' FROM client WHERE NOT opted_out ORDER BY id
"""


@contextmanager
def _parties(lab: Lab) -> Iterator[list[Party]]:
    clients = lab.count(1_000_000, quick=20_000)
    tasks, jobs = lab.count(10_000, quick=500), lab.count(50_000, quick=2_000)

    def ours() -> Sample:
        with lab.database(ROUND, like=AUDIENCE) as url, Child("bench.ours.plan", {"database": url}, lab.log) as child:
            meter = child.work({"postgres": lab.cluster.postmaster})
            lab.check(ROUND, "SELECT pending FROM mailing_counts", clients)
        return per_second(clients, meter)

    def insert(table: str) -> Sample:
        with lab.database(ROUND, like=AUDIENCE):
            lab.sql(ROUND, _BARE_TABLE)
            with Meter({"postgres": lab.cluster.postmaster}) as meter:
                lab.sql(ROUND, _INSERT.format(table=table))
            lab.check(ROUND, f"SELECT count(*) FROM {table}", clients)
        return per_second(clients, meter)

    def celery() -> Sample:
        with Child("bench.peers.celery_app", {"count": tasks}, lab.log, {"BENCH_BROKER": broker.url}) as child:
            meter = child.work({"redis": broker.pid})
            return per_second(tasks, meter)

    def procrastinate() -> Sample:
        with lab.database(ROUND) as url:
            complete("bench.peers.procrastinate_app", {"do": "schema", "database": url}, lab.log)
            given = {"do": "enqueue", "database": url, "count": jobs}
            with Child("bench.peers.procrastinate_app", given, lab.log) as child:
                meter = child.work({"postgres": lab.cluster.postmaster})
            lab.check(ROUND, "SELECT count(*) FROM procrastinate_jobs", jobs)
        return per_second(jobs, meter)

    with redis() as broker, _audience(lab, clients):
        yield [
            Party(MAILING, ours),
            Party(BARE, lambda: insert("bare")),
            Party(WHOLE, lambda: insert("message")),
            Party(CELERY, celery),
            Party(PROCRASTINATE, procrastinate),
        ]


@contextmanager
def _audience(lab: Lab, clients: int) -> Iterator[None]:
    """Create a database to copy, with clients in eleven time zones and a mailing that has just started."""
    with lab.database(AUDIENCE, like=OURS):
        senders.add_clients(lab, AUDIENCE, clients)
        lab.sql(
            AUDIENCE,
            """INSERT INTO mailing (text, starts_at, ends_at, status, released_revision, released_at, released_by)
            VALUES ('hello', now(), now() + interval '1 d', 'scheduled', 1, now(), 'bench')""",
        )
        lab.vacuum(AUDIENCE)
        yield


STAGE = Stage(
    name="start",
    title="Start of a mailing to 1,000,000 clients",
    unit="messages/s",
    parties=_parties,
    needs=("redis-server",),
    imports=("celery",),
    goals=(
        Goal(MAILING, BARE, least=0.7),
        Goal(MAILING, CELERY, least=100),
        Goal(MAILING, PROCRASTINATE, least=15),
    ),
    notes=(
        (
            "The bare table has the columns that are written, its primary key and the unique constraint on client and "
            "mailing. Ours has two more B-trees, CHECK constraints, and triggers that keep counters and refuse ids of "
            "a restored database; Mailing fills it in slices of 20,000 clients, each a transaction, two side by side, "
            "with the openings of each time zone. Celery's rate is from 10,000 tasks, Procrastinate's from 50,000 "
            "jobs, 1,000 a call."
        ),
    ),
)
