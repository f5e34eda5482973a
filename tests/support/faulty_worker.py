"""A worker as a process of its own, with limits for its watchdog and a fault at a named point of its work.

Run as a program: `faulty_worker.py LOOP_S DATABASE_S [POINT FAULT]`, with settings from the environment.
"""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

if not __package__:  # started as a program
    sys.path[0] = str(Path(__file__).parents[1])

from mailing import failpoints
from mailing import worker as worker_
from mailing.cli.runtime import configured, run, until_signal
from mailing.process.supervisor import Child, Signals, supervise
from mailing.process.watchdog import Limits
from mailing.settings import Settings
from mailing.worker import run_worker
from support.forks import Fork, forked
from support.processes import clean_environment


def freeze() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def block() -> None:
    time.sleep(600)


FAULTS = {"freeze": freeze, "block": block}


@asynccontextmanager
async def worker(settings: Settings, directory: Path, *arguments: object) -> AsyncIterator[Fork]:
    """Killed at the end of the block if it still runs, or is stopped."""
    work = partial(main, *map(str, arguments))
    async with forked(work, env=clean_environment(settings), cwd=directory) as process:
        yield process


@asynccontextmanager
async def supervised_worker(settings: Settings, directory: Path, *arguments: object) -> AsyncIterator[list[str]]:
    """Restart the worker whenever it ends; yield what the supervisor logged about that."""
    said: list[str] = []
    signals = Signals()
    command = [sys.executable, __file__, *map(str, arguments)]
    child = Child("worker", command, clean_environment(settings), cwd=directory)
    task = asyncio.create_task(supervise([child], signals=signals, on_event=said.append))
    try:
        yield said
    finally:
        signals.stop.set()
        await task


def _once(point: str, fault: Callable[[], None]) -> Callable[[str], None]:
    pending = [point]

    def reached(here: str) -> None:
        if here in pending:
            pending.remove(here)
            fault()

    return reached


def main(loop_s: str, database_s: str, point: str = "", fault: str = "") -> None:
    if point:
        failpoints.enable(_once(point, FAULTS[fault]))
    settings, limits = configured(), Limits(float(loop_s), float(database_s))
    worker_.CHECK_INTERVAL_S = limits.database_s / 5
    run(until_signal(lambda stop: run_worker(settings, stop, limits)))


if __name__ == "__main__":
    main(*sys.argv[1:])
