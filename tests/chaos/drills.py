"""Drills: one fault at a time, for promises that a run in which everything breaks can't measure.

    python -m chaos.drills --only hang rolling rate fairness down --down-s 3600

Exit status 1 if a promise was broken.
"""

import argparse
import asyncio
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Final

import uvloop

from chaos.gateway.ledger import calls_in
from chaos.runner.drill import Drill, drilling
from chaos.runner.environment import Site
from chaos.runner.failover import failover
from chaos.runner.fairness import fairness
from chaos.runner.load import Latencies
from chaos.runner.observer import OLDEST_IDLE_S
from chaos.runner.patroni import missing
from chaos.runner.report import Promise, figure, none, table, within
from chaos.runner.timeline import Trial
from support.processes import until

PAIRS: Final = 5
PHASE_S: Final = 8.0
HANG_S: Final = 20.0
RESTARTS: Final = 20
RATE: Final = 200.0


async def hang(directory: Path) -> list[Promise]:
    """Compare the API beside a hanging gateway with the API beside idle workers, in alternating pairs."""
    trial = Trial(name="hang", messages=150_000, workers=2, connections=64, latency_s=0.05, kills=0)
    ratios, quiet, hanging, failures, idle_s = [], Latencies(), Latencies(), 0, 0.0
    async with drilling(directory, trial, gateway_timeout_s=12.0) as drill:
        mailing = await drill.mailing(tag="drill")
        await drill.until(lambda: drill.sent(mailing, 500))
        for _ in range(PAIRS):
            await drill.post(f"/mailings/{mailing}/pause/")
            await drill.until(lambda: _no_call(drill, mailing))
            before = await drill.load_api(PHASE_S)
            await drill.post(f"/mailings/{mailing}/resume/")
            await drill.until(lambda: _is_closed(drill))
            await drill.here.witness.behave(mode="hang", hang_s=HANG_S)
            await drill.until(lambda: _all_slots(drill, 128))
            during = await drill.load_api(PHASE_S)
            idle_s = max(idle_s, float(await drill.value(OLDEST_IDLE_S) or 0))
            await drill.here.witness.behave(mode="normal")
            ratios.append(during.percentile(99) / before.percentile(99))
            for total, phase in ((quiet, before), (hanging, during)):
                total.took_ms += phase.took_ms
            failures += before.failures + during.failures
        least = (await drill.counts(mailing))["sent"] + 1000
        goes_on_s = await drill.until(lambda: drill.sent(mailing, least))
    found = f"{median(ratios):.2f} (pairs {', '.join(f'{ratio:.2f}' for ratio in ratios)})"
    p99 = f"{quiet.percentile(99):.1f} ms idle, {hanging.percentile(99):.1f} ms hanging"
    return [
        Promise("gateway hangs in all slots: API p99 against idle", "≤ 1.2", f"{found}; {p99}", median(ratios) <= 1.2),
        none("gateway hangs: API failures", failures),
        Promise("gateway hangs: oldest idle transaction", "≤ 1 s", f"{idle_s:.2f} s", idle_s <= 1),
        figure("gateway hangs: afterwards it goes on", f"1,000 sent {goes_on_s:.1f} s later"),
    ]


async def rolling(directory: Path) -> list[Promise]:
    """Worker after worker is asked to end and started again, while messages are sent."""
    trial = Trial(name="rolling", messages=60_000, workers=3, connections=32, latency_s=0.2, kills=0)
    async with drilling(directory, trial, gateway_timeout_s=10.0) as drill:
        mailing = await drill.mailing(tag="drill")
        await drill.until(lambda: drill.sent(mailing, 1000))
        asked = asyncio.create_task(_restart_workers(drill.here))
        slices = [await drill.load_api(5.0)]
        while not asked.done():
            slices.append(await drill.load_api(5.0))
        took = await asked
        ambiguous = await drill.value("SELECT count(*) FROM attempt WHERE outcome = 'ambiguous'")
        left = (await drill.counts(mailing))["pending"]
    failures = sum(each.failures for each in slices)
    return [
        none(f"{RESTARTS} x SIGTERM under load: ambiguous attempts", ambiguous),
        none("rolling restart: API failures", failures),
        within("rolling restart: longest end", 15, max(took)),
        Promise("rolling restart: messages left for it", "> 0", str(left), left > 0),
    ]


async def _restart_workers(here: Site) -> list[float]:
    """One after the other, each when the one before is at work again."""
    return [await _restart(here, here.workers[number % len(here.workers)]) for number in range(RESTARTS)]


async def _restart(here: Site, name: str) -> float:
    ends, starts = len(here.processes.ends), _starts(here, name)
    here.processes[name].signal(signal.SIGTERM)
    took = await until(lambda: len(here.processes.ends) > ends, seconds=120)
    await until(lambda: _starts(here, name) > starts, seconds=120, every_s=0.1)
    return took


def _starts(here: Site, name: str) -> int:
    return (here.directory / f"{name}.log").read_bytes().count(b'"worker started"')


async def rate(directory: Path) -> list[Promise]:
    """Four workers under one limit, by their own clocks and by the gateway's."""
    trial = Trial(name="rate", messages=8_000, workers=4, connections=32, latency_s=0.02, kills=0)
    async with drilling(directory, trial, gateway_rate=RATE) as drill:
        mailing = await drill.mailing(tag="drill")
        await drill.until(lambda: drill.sent(mailing, int(RATE * 20)))
        async with drill.here.database.connection() as connection:
            rows = await connection.fetch("SELECT extract(epoch FROM started_at)::float8 FROM attempt ORDER BY 1")
        arrived = sorted(call.began_at for call in calls_in(drill.here.witness.ledger))
    begun = [row[0] for row in rows]
    most, lasted_s = most_in_a_second(begun), begun[-1] - begun[0]
    return [
        Promise("rate limit: most calls begun in any second", f"≤ {RATE:g}", str(most), most <= RATE),
        figure("rate limit: most calls at the gateway in any second", str(most_in_a_second(arrived))),
        Promise(
            "rate limit: rate kept up",
            "≥ 0.9",
            f"{len(begun) / lasted_s / RATE:.2f}",
            len(begun) / lasted_s >= 0.9 * RATE,
        ),
    ]


def most_in_a_second(instants: Sequence[float]) -> int:
    most, first = 0, 0
    for last, instant in enumerate(instants):
        while instants[first] <= instant - 1:
            first += 1
        most = max(most, last - first + 1)
    return most


async def down(directory: Path, *, down_s: float) -> list[Promise]:
    """Let the gateway answer 503 to everything while 100,000 messages are due."""
    trial = Trial(name="down", messages=100_000, workers=2, connections=64, latency_s=0.05, kills=0)
    async with drilling(directory, trial, gateway_timeout_s=10.0) as drill:
        mailing = await drill.mailing(tag="drill")
        await drill.until(lambda: drill.sent(mailing, 5000))
        pace = await _pace(drill, mailing)
        await drill.here.witness.behave(mode="status:503")
        await drill.until(lambda: _is_open(drill))
        await drill.until(lambda: _no_call(drill, mailing))
        opened_at, attempts = time.time(), await drill.value(ATTEMPTS)
        await asyncio.sleep(down_s)
        probes = [call.began_at for call in calls_in(drill.here.witness.ledger) if call.began_at > opened_at]
        burnt = await drill.value(ATTEMPTS) - attempts - len(probes)
        await drill.here.witness.behave(mode="normal")
        back_s = await drill.until(lambda: _has_pace(drill, mailing, 0.9 * pace))
    most = most_in_a_second(probes) if probes else 0
    return [
        Promise(
            f"gateway down for {down_s:g} s, 100,000 due: calls",
            "≤ 1/s",
            f"{len(probes)}, {most} in a second",
            most <= 1,
        ),
        Promise("gateway down: attempts burnt beside the probes", "0", str(burnt), burnt <= 0),
        within("gateway back: 90 % of the rate", 60, back_s),
    ]


ATTEMPTS: Final = "SELECT sum(counted_attempts) FROM message"


async def _no_call(drill: Drill, mailing: int) -> bool:
    """Whether no call is under way by the worker's account nor by the gateway's, which may hold it for longer."""
    return (await drill.counts(mailing))["sending"] == 0 and (await drill.here.witness.summary()).under_way == 0


async def _all_slots(drill: Drill, slots: int) -> bool:
    return (await drill.here.witness.summary()).under_way >= slots


async def _is_closed(drill: Drill) -> bool:
    """Whether the breaker is closed; ask for a probe if it is not."""
    if await _is_open(drill):
        await drill.post("/gateway/probe")
        await asyncio.sleep(2)
    return not await _is_open(drill)


async def _is_open(drill: Drill) -> bool:
    answer = await drill.api.get("/gateway/")
    return bool(answer.raise_for_status().json()["breaker"]["state"] == "open")


async def _pace(drill: Drill, mailing: int, seconds: float = 5.0) -> float:
    before = (await drill.counts(mailing))["sent"]
    await asyncio.sleep(seconds)
    return ((await drill.counts(mailing))["sent"] - before) / seconds


async def _has_pace(drill: Drill, mailing: int, pace: float) -> bool:
    return await _pace(drill, mailing, 2.0) >= pace


Drilled = Callable[[Path], Coroutine[Any, Any, list[Promise]]]
DRILLS: Final[dict[str, Drilled]] = {"hang": hang, "rolling": rolling, "rate": rate, "fairness": fairness}


def main() -> None:
    options = argparse.ArgumentParser(description="One fault at a time, and what was promised about it.")
    usual = [*DRILLS, "down"]
    options.add_argument("--only", nargs="+", choices=[*usual, "failover"], default=usual)
    options.add_argument("--down-s", type=float, default=300, help="how long the gateway is down; 3600 for the hour")
    given = options.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="mailing-drills-"))
    print(f"logs in {directory}", flush=True)
    all_drills: dict[str, Drilled] = DRILLS | {
        "down": partial(down, down_s=given.down_s),
        "failover": failover,
    }
    if "failover" in given.only and (programs := missing()):
        sys.exit(f"failover needs {', '.join(programs)}: apt-get install patroni etcd-server haproxy")
    found: list[Promise] = []
    for name in given.only:
        drill = all_drills[name](directory)
        promises = uvloop.run(drill)
        print(f"\n{name}\n\n{table(promises)}", flush=True)
        found += promises
    sys.exit(0 if all(promise.kept for promise in found) else 1)


if __name__ == "__main__":
    main()
