"""Real processes: run one until a block ends, ask whether it is still there, and wait for what it does."""

import asyncio
import inspect
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, Final, Protocol

import httpx

from mailing.settings import PREFIX, Settings, environment
from support.plain_http import NO_TLS


class Process(Protocol):
    """An `asyncio.subprocess.Process`, or a `forks.Fork`."""

    @property
    def pid(self) -> int: ...
    @property
    def returncode(self) -> int | None: ...
    def kill(self) -> None: ...
    async def wait(self) -> object: ...


MAILING: Final = (sys.executable, "-m", "mailing")


@asynccontextmanager
async def running(
    *command: str | Path,
    log: Path | None = None,
    end: signal.Signals = signal.SIGTERM,
    end_s: float = 30.0,
    **how: Any,  # noqa: ANN401 - as create_subprocess_exec takes them
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a program until the block ends, then end it by `end`. Fail if it takes longer than `end_s`.

    What it prints is appended to `log`.
    """
    with log.open("ab") if log else nullcontext() as file:
        outputs = {"stdout": file, "stderr": file} if file else {}
        process = await asyncio.create_subprocess_exec(*command, **(outputs | how))
    try:
        yield process
    finally:
        await stop(process, end, within_s=end_s)


async def stop(process: Process, by: signal.Signals, *, within_s: float = 30.0) -> None:
    """End it, also if it is frozen. It may have ended already."""
    if process.returncode is not None:
        return
    with suppress(ProcessLookupError):
        for number in (by, signal.SIGCONT):
            os.kill(process.pid, number)  # process.send_signal may reap it, and its exit status is lost
    try:
        await asyncio.wait_for(process.wait(), within_s)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise


def is_running(pid: int) -> bool:
    """Return False for a zombie: it has ended, and its parent has not waited for it yet."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return not Path("/proc/self").exists()


def is_listening(port: int, host: str = "127.0.0.1") -> bool:
    with socket.socket() as connection:
        return connection.connect_ex((host, port)) == 0


async def until(holds: Callable[[], object], *, seconds: float = 60, every_s: float = 0.02) -> float:
    """Wait until it holds; `holds` may be a coroutine function. Return how many seconds it took.

    `seconds` is patience with a busy machine, not a claim.
    """
    began = time.monotonic()
    while True:
        found = holds()
        if await found if inspect.isawaitable(found) else found:
            return time.monotonic() - began
        assert time.monotonic() - began < seconds, f"not so after {seconds} s"
        await asyncio.sleep(every_s)


async def becomes(question: Callable[[], Awaitable[object]], answer: object) -> None:
    """Wait until this is the answer."""

    async def is_answer() -> bool:
        return await question() == answer

    await until(is_answer)


def clean_environment(settings: Settings | None = None, /, **more: str) -> dict[str, str]:
    """Return the environment of a process of ours: these settings and no other, beside what all processes have."""
    others = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    return others | (environment(settings) if settings else {}) | more


async def until_ready(
    url: str, process: Process | None = None, *, path: str = "/health/ready", seconds: float = 60
) -> None:
    """Wait until the API at `url` can work, or another server answers `path`. Fail if its process ends first."""

    async def is_ready() -> bool:
        assert process is None or process.returncode is None, "it ended instead of becoming ready"
        try:
            return (await http.get(url + path)).is_success
        except httpx.TransportError:
            return False

    async with httpx.AsyncClient(verify=NO_TLS, trust_env=False, timeout=30) as http:
        await until(is_ready, seconds=seconds, every_s=0.1)
