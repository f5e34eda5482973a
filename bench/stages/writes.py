"""What a live worker costs the server for each message: statements, index entries and bytes of log."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from bench import senders
from bench.lab import Lab
from bench.measure import Party, Sample, Stage
from bench.senders import ROUND, dispatch

COUNTS = ("statements", "index entries", "bytes of log")

# What the server counts while others wait: the log has a record for each entry of a B-tree. Leaves that split have one
# for both the split and the entry.
_STATEMENTS = """
    SELECT sum(s.calls)::float FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid
    WHERE d.datname = current_database() AND s.query !~ '^(BEGIN|COMMIT|ROLLBACK|SELECT sent FROM mailing_counts)'
"""
_ENTRIES = """
    SELECT coalesce(sum(count), 0)::float FROM pg_get_wal_stats(%(since)s::pg_lsn, pg_current_wal_flush_lsn(), true)
    WHERE "resource_manager/record_type" IN (
        'Btree/INSERT_LEAF', 'Btree/INSERT_POST', 'Btree/SPLIT_L', 'Btree/SPLIT_R')
"""
_LOG = "SELECT (pg_current_wal_flush_lsn() - %(since)s::pg_lsn)::float"


@contextmanager
def _parties(lab: Lab) -> Iterator[list[Party]]:
    messages = lab.count(30_000, quick=2_000)
    counted: dict[str, float] = {}

    def measured(name: str) -> Sample:
        if name == COUNTS[0]:
            counted.update(_dispatched(lab, messages))
        return Sample(counted[name], messages)

    with lab.preloading("pg_stat_statements"), senders.planned_mailing(lab, messages):
        yield [Party(name, partial(measured, name)) for name in COUNTS]


def _dispatched(lab: Lab, messages: int) -> dict[str, float]:
    with senders.ours(lab, gateway=lab.stub.url) as sender:
        lab.sql(ROUND, "CREATE EXTENSION pg_stat_statements", "CREATE EXTENSION pg_walinspect")
        since = lab.value(ROUND, "SELECT pg_current_wal_insert_lsn()::text")
        lab.sql(ROUND, "SELECT pg_stat_statements_reset()")
        dispatch(lab, sender, messages)
        found = (
            lab.value(ROUND, _STATEMENTS),
            lab.value(ROUND, _ENTRIES, since=since),
            lab.value(ROUND, _LOG, since=since),
        )
    return {name: value / messages for name, value in zip(COUNTS, found, strict=True)}


STAGE = Stage(
    name="writes",
    title="What a live worker costs the server for each message",
    unit="for a message",
    parties=_parties,
    goals=(),
    notes=(
        (
            "Counted by the server, from the resumed mailing to its last stored result. Jobs, sweeps and heartbeats "
            "are included. BEGIN, COMMIT and the plan are not; the plan adds four index entries a message. "
            "`tests/sending/test_statements.py` asserts how many entries a message writes by itself."
        ),
    ),
)
