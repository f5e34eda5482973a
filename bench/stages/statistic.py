"""Statistics of one mailing: the time of our queries, for any number of messages."""

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from bench import senders
from bench.children import run
from bench.lab import OURS, Lab
from bench.measure import Goal, Party, Sample, Stage
from bench.stages.statements import filled
from mailing.statistics import repository

SIZES = (10_000, 1_000_000)
ROW, GROUP = "one row by its primary key", "GROUP BY over the messages"


@contextmanager
def _parties(lab: Lab) -> Iterator[list[Party]]:
    small, large = SIZES if not lab.is_quick else (1_000, 20_000)
    counts = filled(repository._LINE.text, {"id": "1"})  # noqa: SLF001 - the statement itself is measured

    def party(name: str, database: str, statement: str, seconds: int = 3) -> Party:
        return Party(name, lambda: Sample(_microseconds(lab, database, statement, seconds)))

    with ExitStack() as databases:
        for database, messages in (("bench_small", small), ("bench_large", large)):
            databases.enter_context(lab.database(database, like=OURS))
            senders.add_mailing(lab, database, messages)
            lab.vacuum(database)
        yield [
            party(_ours(SIZES[0]), "bench_small", counts),
            party(_ours(SIZES[1]), "bench_large", counts),
            party(ROW, "bench_large", "SELECT * FROM mailing_counts WHERE mailing_id = 1"),
            party(GROUP, "bench_large", "SELECT status, count(*) FROM message WHERE mailing_id = 1 GROUP BY status", 5),
        ]


def _ours(messages: int) -> str:
    return f"Mailing's counts, {messages:,} messages"


def _microseconds(lab: Lab, database: str, statement: str, seconds: int) -> float:
    """Measure one execution of the prepared statement over one connection, including the round trip."""
    script = lab.directory / "statement.sql"
    script.write_text(f"{' '.join(statement.split())};\n", "utf-8")
    command = [lab.tool("pgbench"), "--no-vacuum", "-M", "prepared", "-T", str(1 if lab.is_quick else seconds)]
    printed = run([*command, "-f", str(script), lab.url(database)], {})[2]
    found = re.search(r"latency average = ([\d.]+) ms", printed)
    assert found
    return float(found[1]) * 1000


STAGE = Stage(
    name="statistics",
    title="Statistics of one mailing",
    unit="µs",
    parties=_parties,
    goals=(
        Goal(_ours(SIZES[1]), ROW, most=3),
        Goal(_ours(SIZES[1]), _ours(SIZES[0]), most=1.2),
        Goal(GROUP, _ours(SIZES[1]), least=100),
    ),
    notes=(
        "The counts in `GET /statistics/{id}/`: their statement as pgbench runs it, prepared, over one connection.",
    ),
)
