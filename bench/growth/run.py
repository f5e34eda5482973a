"""Measure whether a message costs the same among ten million as among ten thousand.

    make bench-growth                                     # 10,000 and 100,000; some minutes
    make bench-growth ARGS="--largest 1M --held 600 --json growth.json"

For each size, in a new database: a mailing to all clients is planned, sent and kept; pages are read; a small mailing is
sent beside it; another one goes to all clients while a snapshot is held open; finally a slice of retention runs.
Compare the pages (8 kB, read in the database), which are the same on every machine, rather than the seconds.
"""

import argparse
import asyncio
import json
import platform
from dataclasses import asdict
from pathlib import Path

from bench.growth.cluster import cluster, drop_database, make_database
from bench.growth.scenario import Scenario
from support.postgres import Cluster

SIZES = {
    "2k": 2000,
    "10k": 10_000,
    "100k": 100_000,
    "1M": 1_000_000,
    "10M": 10_000_000,
}  # 10M: 25 GB of disk, some hours


def main() -> None:
    options = _options()
    sizes = list(SIZES)[1 : list(SIZES).index(options.largest) + 1] or ["2k"]  # only shows that it runs
    with cluster() as (own, settings):
        print(
            f"PostgreSQL: {own.kind}, {', '.join(settings)}; {platform.machine()}, Python {platform.python_version()}"
        )
        scenarios = [
            asyncio.run(_measured(own, size, options, held_s=options.held if size == sizes[-1] else 0))
            for size in sizes
        ]
    print(_table(sizes, scenarios))
    if options.json:
        options.json.write_text(
            json.dumps({size: asdict(each)["costs"] for size, each in zip(sizes, scenarios, strict=True)}, indent=1)
        )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-growth", description=__doc__)
    parser.add_argument("--largest", choices=SIZES, default="100k", help="10M takes 25 GB of disk and hours")
    parser.add_argument(
        "--held", type=float, default=0, help="seconds, at least, that the snapshot is held open at the largest size"
    )
    parser.add_argument("--fillfactor", type=int, help="of the table message, instead of the migration's")
    parser.add_argument("--json", type=Path, help="where to write all figures")
    return parser.parse_args()


async def _measured(own: Cluster, size: str, options: argparse.Namespace, *, held_s: float) -> Scenario:
    name = f"growth_{size}".lower()
    print(f"{size} messages", flush=True)
    url = await make_database(own, name)
    scenario = Scenario(SIZES[size], url, own.kind != "embedded", held_s=held_s, fillfactor=options.fillfactor)
    await scenario.run()
    await drop_database(own, name)
    return scenario


def _table(sizes: list[str], scenarios: list[Scenario]) -> str:
    """Build a table of pages, with microseconds in parentheses."""
    lines = [f"| | {' | '.join(sizes)} |", f"|---|{'---|' * len(sizes)}"]
    for name in scenarios[-1].costs:
        cells = [f"{cost.buffers:,.1f} ({cost.microseconds:,.0f})" for cost in (each.costs[name] for each in scenarios)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
