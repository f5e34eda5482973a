"""The product's processes in a run: started again when they end, killed at named points, frozen and thawed.

The product's own supervisor waits ever longer before it restarts a process that dies often, and hides the process. A
run kills hundreds, and needs each one's pid, its orders and its exit status.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from signal import Signals
from typing import Final

import msgspec

from chaos.runner.launcher import Launch, Life
from mailing.process.supervisor import EXIT_USAGE
from mailing.settings import Settings
from support.processes import clean_environment

STOP_S: Final = 40


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
    """`orders` are those not carried out yet: a process that was started again is born with them."""

    name: str
    command: Sequence[str]
    env: Mapping[str, str]
    directory: Path
    launch: Launch
    orders: dict[int, str] = field(default_factory=dict)
    life: Life | None = None
    is_wanted: bool = True

    @property
    def pid(self) -> int:
        """0 between two lives."""
        return self.life.process.pid if self.life else 0

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

    def tell(self, order: int, line: str) -> None:
        self.orders[order] = line
        if self.life:
            self.life.tell(line)

    async def live(self) -> End:
        """One life, from start to end."""
        given = dict(self.orders)
        orders = [argument for line in given.values() for argument in ("--order", line)]
        arguments = ["--name", self.name, "--deaths", str(self.directory / "deaths"), *orders, "--", *self.command]
        async with self.launch(arguments, self.env, self.directory / f"{self.name}.log") as life:
            self.life = life
            for order in self.orders.keys() - given.keys():
                life.tell(self.orders[order])
            try:
                await life.process.wait()
            finally:
                self.life = None
            return End(self.name, life.process.pid, life.process.returncode or 0, datetime.now(UTC))


class Processes:
    """Output goes to NAME.log in `directory`. A process is started again whenever it ends, until all are stopped."""

    def __init__(self, directory: Path, launch: Launch) -> None:
        self.ends: list[End] = []
        self._directory = directory
        self._launch = launch
        self._deaths = directory / "deaths"
        self._deaths.mkdir(parents=True, exist_ok=True)
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
        self._newest_order += 1
        order = self._newest_order
        for command in commands:
            process = self._process(name, command, settings)
            process.orders[order] = f"{order}:{point}:1"
            self.ends.append(await process.live())
            if order in {kill.order for kill in self.kills}:
                return

    def order(self, point: str, *, of: Sequence[str], hits: int = 1) -> int:
        """Kill the first of these processes that reaches `point` for the `hits`th time from now on."""
        self._newest_order += 1
        for name in of:
            self._processes[name].tell(self._newest_order, f"{self._newest_order}:{point}:{hits}")
        return self._newest_order

    @property
    def kills(self) -> list[Kill]:
        files = self._deaths.glob("*.json")
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
            for carried_out in {kill.order for kill in self.kills} & process.orders.keys():
                del process.orders[carried_out]


@asynccontextmanager
async def processes(directory: Path, launch: Launch) -> AsyncIterator[Processes]:
    own = Processes(directory, launch)
    try:
        yield own
    finally:
        await own.stop_all()
