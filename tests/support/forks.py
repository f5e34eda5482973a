"""Processes forked from one that has loaded `mailing`, because to load it takes a second of processor time.

Each worker of a parallel run loads it once, when the first of its tests needs a process.
"""

import asyncio
import multiprocessing
import os
import signal
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from mailing.cli.main import COMMANDS

LOADED = multiprocessing.get_context("forkserver")
LOADED.set_forkserver_preload(
    [
        "__main__",
        "mailing.app",
        "mailing.worker",
        *(f"mailing.cli.{where.partition(':')[0]}" for where, _ in COMMANDS.values()),
    ]
)


class Fork:
    """What tests use of an `asyncio.subprocess.Process`."""

    def __init__(self, process: ForkServerProcess) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        assert self._process.pid
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def send_signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    async def wait(self) -> int | None:
        ended, loop = asyncio.Event(), asyncio.get_running_loop()
        loop.add_reader(self._process.sentinel, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(self._process.sentinel)
        return self.returncode


@asynccontextmanager
async def forked(
    work: Callable[[], None], *, env: Mapping[str, str], cwd: Path, outputs: Sequence[Path] = ()
) -> AsyncIterator[Fork]:
    """Do `work` as `work_in` does, in a process of its own; kill it if it still runs at the end of the block."""
    process = LOADED.Process(target=work_in, args=(work, dict(env), cwd, outputs), daemon=True)
    await asyncio.to_thread(process.start)
    try:
        yield Fork(process)
    finally:
        process.kill()
        process.join()


def work_in(work: Callable[[], None], env: Mapping[str, str], cwd: Path, outputs: Sequence[Path]) -> None:
    """Work in this environment and directory. `outputs`: what stdout and stderr are appended to."""
    for number, path in enumerate(outputs, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    work()
