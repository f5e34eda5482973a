"""The product's processes in a run: started again when they end, killed at named points, frozen and thawed.

The product's own supervisor waits ever longer before it restarts a process that dies often, and hides the process. A
run kills hundreds, and needs each one's pid and its exit status.
"""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from signal import Signals
from typing import Final

import msgspec

from chaos.runner import failpoint_process
from mailing.process.supervisor import EXIT_USAGE
from mailing.settings import Settings
from support import forks, processes
from support.processes import clean_environment

STOP_S: Final = 40
ORDERS: Final = "orders"  # the directory of `failpoint_process`

Launch = Callable[[Sequence[str], Mapping[str, str], Path], AbstractAsyncContextManager[processes.Process]]
"""Run one life of a process, with these arguments of `failpoint_process` and this environment, and append what it
prints to a file. A life that lasts longer than the block is ended by SIGKILL.
"""


def executed(
    arguments: Sequence[str], env: Mapping[str, str], log: Path
) -> AbstractAsyncContextManager[processes.Process]:
    """Start it as `mailing up` does, imports and all: 3 s of computing."""
    command = (sys.executable, failpoint_process.__file__, *arguments)
    return processes.running(*command, log=log, end=signal.SIGKILL, env=env, cwd=log.parent, stdin=PIPE)


def forked(
    arguments: Sequence[str], env: Mapping[str, str], log: Path
) -> AbstractAsyncContextManager[processes.Process]:
    """Copy a process that has imported everything already, for runs that must be quick."""
    return forks.forked(partial(failpoint_process.main, *arguments), env=env, cwd=log.parent, outputs=(log, log))


class Kill(msgspec.Struct, frozen=True):
    """A death that was ordered, as the process itself wrote it down right before."""

    order: int
    point: str
    name: str
    pid: int
    at: datetime


class End(msgspec.Struct, frozen=True):
    """How a process ended: `status` is negative for a signal."""

    name: str
    pid: int
    status: int
    at: datetime


@dataclass
class Process:
    name: str
    command: Sequence[str]
    env: Mapping[str, str]
    directory: Path
    launch: Launch
    life: processes.Process | None = None
    is_wanted: bool = True

    @property
    def pid(self) -> int:
        """0 between two lives."""
        return self.life.pid if self.life else 0

    def signal(self, number: Signals) -> int:
        """Return the pid that got the signal; 0 if no process runs."""
        if pid := self.pid:
            with suppress(ProcessLookupError):  # it has just ended
                os.kill(pid, number)
        return pid

    async def signal_soon(self, number: Signals) -> int:
        """Wait for the next process if none runs."""
        while True:
            if pid := self.signal(number):
                return pid
            await asyncio.sleep(0.1)

    async def live(self) -> End:
        """One life, from start to end."""
        arguments = [self.name, str(self.directory / ORDERS), *self.command]
        async with self.launch(arguments, self.env, self.directory / f"{self.name}.log") as life:
            self.life = life
            try:
                await life.wait()
            finally:
                self.life = None
            return End(self.name, life.pid, life.returncode or 0, datetime.now(UTC))


class Processes:
    """Output goes to NAME.log in `directory`. A process is started again whenever it ends, until all are stopped."""

    def __init__(self, directory: Path, launch: Launch) -> None:
        self.ends: list[End] = []
        self._directory = directory
        self._launch = launch
        self._orders = directory / ORDERS
        self._orders.mkdir(parents=True, exist_ok=True)
        self._processes: dict[str, Process] = {}
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._newest_order = 0

    def __getitem__(self, name: str) -> Process:
        return self._processes[name]

    def start(self, name: str, command: Sequence[str], settings: Settings) -> Process:
        process = self._process(name, command, settings)
        self._processes[name] = process
        self._keepers[name] = asyncio.create_task(self._keep(process))
        return process

    async def run_until_killed(
        self, name: str, commands: Iterable[Sequence[str]], settings: Settings, *, point: str
    ) -> None:
        """One command after the other, until one gets as far as `point`."""
        order = self.order(point, of=[name])
        for command in commands:
            self.ends.append(await self._process(name, command, settings).live())
            if order in {kill.order for kill in self.kills}:
                return

    def order(self, point: str, *, of: Sequence[str], hits: int = 1) -> int:
        """Kill the first of these processes that reaches `point` for the `hits`th time from now on."""
        self._newest_order += 1
        for name in of:
            (self._orders / name).mkdir(exist_ok=True)
            (self._orders / name / f"{point}-{self._newest_order}-{hits}").touch()
        return self._newest_order

    @property
    def kills(self) -> list[Kill]:
        files = self._orders.glob("*.json")
        return sorted((msgspec.json.decode(file.read_bytes(), type=Kill) for file in files), key=lambda kill: kill.at)

    async def stop(self, names: Sequence[str]) -> None:
        """As an operator stops them; whoever does not end by itself is killed. Raises what went wrong meanwhile."""
        keepers = [self._keepers.pop(name) for name in names]
        for name in names:
            self._processes[name].is_wanted = False
            self._processes[name].signal(signal.SIGCONT)
            self._processes[name].signal(signal.SIGTERM)
        if keepers:
            _, late = await asyncio.wait(keepers, timeout=STOP_S)
            for keeper in late:
                keeper.cancel()
        for outcome in await asyncio.gather(*keepers, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome

    async def stop_all(self) -> None:
        await self.stop(list(self._keepers))

    def _process(self, name: str, command: Sequence[str], settings: Settings) -> Process:
        return Process(name, command, clean_environment(settings), self._directory, self._launch)

    async def _keep(self, process: Process) -> None:
        while process.is_wanted:
            end = await process.live()
            self.ends.append(end)
            if end.status == EXIT_USAGE:
                raise RuntimeError(f"{process.name} was started wrongly; see {process.name}.log")


@asynccontextmanager
async def supervising(directory: Path, launch: Launch) -> AsyncIterator[Processes]:
    own = Processes(directory, launch)
    try:
        yield own
    finally:
        await own.stop_all()


class Freezes:
    """Workers that stop for a while and go on, as on a machine that was suspended. At least one of `workers` is
    running: if none swept, what that takes would be measured as the product's delay.
    """

    def __init__(self, own: Processes, workers: int) -> None:
        self._processes = own
        self._admitted = asyncio.Semaphore(workers - 1)

    async def freeze(self, name: str, seconds: float) -> tuple[datetime, datetime]:
        """Wait until another worker would be left. Return when it was frozen and when it went on."""
        async with self._admitted:
            worker = self._processes[name]
            pid = await worker.signal_soon(signal.SIGSTOP)
            begun = datetime.now(UTC)
            await asyncio.sleep(seconds)
            if worker.pid == pid:
                worker.signal(signal.SIGCONT)
            return begun, datetime.now(UTC)
