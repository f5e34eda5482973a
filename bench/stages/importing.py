"""Clients from a CSV file: rows per second, from the start of the program to its end, and its memory."""

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.children import Child, run
from bench.lab import OURS, Lab, mailing
from bench.measure import Goal, Party, Sample, Stage, per_second
from bench.senders import ROUND, ZONES

MAILING, TENTH, COPY, ORM = "Mailing", "Mailing, a tenth of the rows", "psql \\copy", "SQLAlchemy ORM, bulk insert"
COUNT = "SELECT count(*) FROM client"
COLUMNS = "phone, operator_code, tag, timezone"
PRIME = 736_338_717  # n * PRIME modulo 10^9 takes every value once: phones in random order


@contextmanager
def _parties(lab: Lab) -> Iterator[list[Party]]:
    rows = lab.count(1_000_000, quick=20_000)
    whole, tenth = _file(lab, rows), _file(lab, rows // 10)

    def ours(file: Path, count: int) -> Sample:
        with lab.database(ROUND, like=OURS):
            command = mailing("import", str(file))
            environment = lab.mailing(ROUND)
            meter, peak_mb, _ = run(command, {"postgres": lab.cluster.postmaster}, env=environment, cwd=lab.directory)
            lab.check(ROUND, COUNT, count)
        return per_second(count, meter, peak_mb)

    def copy() -> Sample:
        with lab.database(ROUND, like=OURS) as url:
            command = f"\\copy client ({COLUMNS}) FROM '{whole}' WITH (FORMAT csv, HEADER)"
            psql = [lab.tool("psql"), "--no-psqlrc", "--set=ON_ERROR_STOP=1", "--command", command, url]
            meter, peak_mb, _ = run(psql, {"postgres": lab.cluster.postmaster})
            lab.check(ROUND, COUNT, rows)
        return per_second(rows, meter, peak_mb)

    def orm() -> Sample:
        with lab.database(ROUND, like=OURS) as url:
            with Child("bench.peers.orm_insert", {"database": url, "file": str(tenth)}, lab.log) as child:
                meter = child.work({"postgres": lab.cluster.postmaster})
            lab.check(ROUND, COUNT, rows // 10)
        return per_second(rows // 10, meter)

    yield [
        Party(MAILING, lambda: ours(whole, rows)),
        Party(TENTH, lambda: ours(tenth, rows // 10)),
        Party(COPY, copy),
        Party(ORM, orm),
    ]


def _file(lab: Lab, rows: int) -> Path:
    """Write phones in random order with a hundred tags, some rows without one."""
    file = lab.directory / f"clients-{rows}.csv"
    with file.open("w", newline="") as output:
        writer = csv.writer(output)
        writer.writerow(COLUMNS.split(", "))
        for n in range(rows):
            number = n * PRIME % 10**9
            tag = f"tag {n % 128}" if n % 128 < 100 else ""
            writer.writerow([f"79{number:09}", f"9{number // 10**7:02}", tag, ZONES[n % len(ZONES)]])
    return file


STAGE = Stage(
    name="import",
    title="Import of 1,000,000 clients from CSV",
    unit="rows/s",
    parties=_parties,
    goals=(
        Goal(MAILING, COPY, least=0.8),
        Goal(MAILING, ORM, least=15),
    ),
    notes=(
        (
            "`mailing import` judges every row, leaves out bad ones, updates known clients and keeps opt-outs; its "
            "start counts. `\\copy` fills the same empty table with its indexes and triggers, and judges nothing but "
            "its constraints. The ORM adds 100,000 objects, flushed by 1,000, in one transaction, without its start."
        ),
        "Memory is the peak of the program itself: at a tenth of the rows and at all of them.",
    ),
)
