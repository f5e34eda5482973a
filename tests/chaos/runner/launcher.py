"""One life of a process of the product: it gets orders while it lasts, and ends with a status.

`executed` is how `mailing up` starts a process, imports and all: 3 s of computing. `forked` copies a process that has
imported everything already: for runs that must be quick.
"""

import asyncio
import multiprocessing
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Final, Protocol

from msgspec import Struct

from chaos.runner import failpoint_process

IMPORTED_ONCE: Final = [
    "mailing.cli.main",
    "mailing.cli.api",
    "mailing.cli.worker",
    "mailing.cli.sandbox",
    "mailing.worker",
    "uvicorn",
    "chaos.runner.failpoint_process",
]


class Birth(Struct, frozen=True, kw_only=True):
    """`orders` are lines as `worker` takes them; output is appended to NAME.log in `directory`."""

    name: str
    command: Sequence[str]
    env: Mapping[str, str]
    directory: Path
    orders: Sequence[str]

    @property
    def arguments(self) -> list[str]:
        orders = [argument for line in self.orders for argument in ("--order", line)]
        return ["--name", self.name, "--deaths", str(self.directory / "deaths"), *orders, "--", *self.command]

    @property
    def log(self) -> Path:
        return self.directory / f"{self.name}.log"


class Life(Protocol):
    @property
    def pid(self) -> int: ...
    def tell(self, order: str) -> None: ...
    async def end(self) -> int:
        """Its exit status, negative for a signal."""


async def executed(birth: Birth) -> Life:
    with birth.log.open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, failpoint_process.__file__, *birth.arguments),
            env=birth.env,
            cwd=birth.directory,
            stdin=asyncio.subprocess.PIPE,
            stdout=log,
            stderr=log,
        )
    return _Executed(process)


async def forked(birth: Birth) -> Life:
    fork = multiprocessing.get_context("forkserver")
    fork.set_forkserver_preload(IMPORTED_ONCE)
    ours, theirs = fork.Pipe()
    process = fork.Process(target=_live, args=(birth, theirs), daemon=True)
    await asyncio.to_thread(process.start)  # the first one waits for the imports
    theirs.close()
    return _Forked(process, ours)


def _live(birth: Birth, orders: Connection) -> None:
    """In the new process."""
    log = os.open(birth.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for output in (1, 2):
        os.dup2(log, output)
    os.chdir(birth.directory)
    os.environ.clear()
    os.environ.update(birth.env)
    failpoint_process.main(birth.arguments, iter(orders.recv, None))


class _Executed:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    def tell(self, order: str) -> None:
        if self._process.stdin:
            self._process.stdin.write(f"{order}\n".encode())

    async def end(self) -> int:
        return await self._process.wait()


class _Forked:
    def __init__(self, process: BaseProcess, orders: Connection) -> None:
        self._process = process
        self._orders = orders

    @property
    def pid(self) -> int:
        return self._process.pid or 0

    def tell(self, order: str) -> None:
        with suppress(OSError):  # it has just ended
            self._orders.send(order)

    async def end(self) -> int:
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(self._process.sentinel, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(self._process.sentinel)
        self._process.join()
        self._orders.close()
        return self._process.exitcode or 0


def strike(pid: int, number: signal.Signals) -> None:
    """Nobody there is fine, too: it has just ended."""
    if pid:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
