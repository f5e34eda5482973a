"""The fault run: everything breaks while mailings are sent; then it is checked what became of every message.

    python -m chaos.run --scale full --seed 1 --directory DIRECTORY

Exit status 1 if a promise was broken. DIRECTORY keeps the logs, the gateway's ledger and the record of each run.
"""

import argparse
import asyncio
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import msgspec
import uvloop
from msgspec.structs import replace

from chaos.gateway.receipts import ReceiptSender, sending_receipts
from chaos.runner.campaign import Campaign
from chaos.runner.environment import Site, site, start_workers
from chaos.runner.fault_player import Player
from chaos.runner.observer import observer
from chaos.runner.record import Record, leaks
from chaos.runner.report import Promise, promises, table
from chaos.runner.timeline import FULL, SMALL, Event, Trial, timeline
from chaos.runner.verdict import judge

# Beside the full run, and smaller: what must never be repeated is not, whatever breaks.
HOLD: Final = replace(
    FULL,
    name="hold",
    on_unknown="hold",
    messages=5_000,
    rate=40.0,
    kills=20,
    restarts=1,
    terminations=3,
    freezes=1,
    outages=0,
    locks=0,
    churns=2,
    swarm=10,
    extensions=1,
    end_s=60.0,
)
RECOGNISING: Final = replace(HOLD, name="ids recognised", on_unknown="retry", recognises_ids=True)


def trials(scale: str, messages: int | None) -> list[Trial]:
    """`messages`: of the first, instead of the scale's."""
    first, *others = [SMALL] if scale == "small" else [FULL, HOLD, RECOGNISING]
    return [replace(first, messages=messages or first.messages), *others]


async def run(trial: Trial, *, seed: int, directory: Path, fsync: bool) -> Record:
    directory.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    async with site(directory, trial, seed=seed, fsync=fsync) as here, here.api() as api:
        campaign = Campaign(here, api, trial, seed)
        await campaign.prepare()
        await campaign.launch()
        start_workers(here)
        async with reporting(here, seed=seed) as receipts:
            async with observer(here, messages=trial.messages, is_quick=trial.is_quick) as seen:
                player = Player(here, campaign, seen, trial)
                await _play(player, timeline(trial, seed))
            await here.processes.stop(here.workers)
        record = _record(player, trial, seed)
        await judge(here, campaign, record, receipts.reported)
    record.took_s = time.monotonic() - began
    record.leaks = leaks(sorted(directory.glob("*.log")))
    (directory / "record.json").write_bytes(msgspec.json.format(msgspec.json.encode(record)))
    return record


@asynccontextmanager
async def reporting(here: Site, *, seed: int) -> AsyncIterator[ReceiptSender]:
    """The provider's part: it reports what it accepted while the block lasts, and at its end what is left."""
    async with here.database.connection() as connection:
        key = await connection.fetchval("SELECT receipt_key FROM installation")
    async with here.api() as http, sending_receipts(here.witness.ledger, http, key, base=here.url, seed=seed) as sender:
        yield sender


async def _play(player: Player, events: list[Event]) -> None:
    """Whatever is not final when the time is over counts against the product."""
    with suppress(TimeoutError):
        async with asyncio.timeout(player.trial.limit_s):
            await player.play(events)
            await player.seen.end(stuck_s=player.trial.stuck_s)


def _record(player: Player, trial: Trial, seed: int) -> Record:
    return Record(
        trial=trial,
        seed=seed,
        timeline=timeline(trial, seed),
        left=player.left,
        open_orders=player.open_orders,
        happened=player.happened,
        kills=player.here.processes.kills,
        ends=player.here.processes.ends,
        actions=player.campaign.actions,
        locked=player.locked,
        seen=player.seen.seen,
    )


def _tell(record: Record) -> list[Promise]:
    """Print the record."""
    found = promises(record)
    print(f"\n{record.trial.name}: seed {record.seed}, {record.trial.messages} messages, {record.took_s:.0f} s\n")
    print(table(found))
    for event in (*record.left, *record.open_orders):
        print(f"did not happen: {event}")
    for violation in record.violations[:20]:
        print(f"{violation.invariant} message {violation.message_id}: {violation.sentence}")
    return found


async def _until_terminated(work: Coroutine[Any, Any, Record]) -> Record:
    """SIGTERM leaves no server behind, as Ctrl-C does not."""
    task = asyncio.ensure_future(work)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await task


def main() -> None:
    options = argparse.ArgumentParser(
        description="Breaks everything while mailings are sent, and checks what came of it."
    )
    options.add_argument("--scale", choices=["small", "full"], default="full")
    options.add_argument("--messages", type=int, help="of the first run, instead of the scale's")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--only", help="one run of the scale by its name: full, hold, ids recognised")
    options.add_argument("--directory", type=Path, help="keeps logs, ledger and record; a temporary one without it")
    options.add_argument(
        "--fsync", action="store_true", help="as in production; without it the disk is not the measure"
    )
    given = options.parse_args()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr] # a run is long, and read while it goes on
    directory = (given.directory or Path(tempfile.mkdtemp(prefix="mailing-chaos-"))).resolve()
    kept = []
    for trial in trials(given.scale, given.messages):
        if given.only not in (None, trial.name):
            continue
        print(f"{trial.name}, seed {given.seed}, in {directory / trial.name}", *timeline(trial, given.seed), sep="\n")
        work = run(trial, seed=given.seed, directory=directory / trial.name, fsync=given.fsync)
        record = uvloop.run(_until_terminated(work))
        kept += _tell(record)
    (directory / "result.json").write_bytes(msgspec.json.format(msgspec.json.encode(kept)))
    sys.exit(0 if all(promise.kept for promise in kept) else 1)


if __name__ == "__main__":
    main()
