"""Real processes in tests: a worker, whether one is still there, and waiting for what they do."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from msgspec.structs import asdict

from mailing.settings import PREFIX, Settings


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


async def until(condition: Callable[[], object], *, seconds: float = 5) -> None:
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, f"not so after {seconds} s"
        await asyncio.sleep(0.02)


@asynccontextmanager
async def worker_process(settings: Settings, directory: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a worker as an operator does; kill it if it still runs at the end of the block."""
    chosen = {PREFIX + name.upper(): str(value) for name, value in asdict(settings).items() if value is not None}
    env = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)} | chosen
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "mailing", "worker", env=env, cwd=directory)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
            await process.wait()
