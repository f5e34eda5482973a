"""Workers that stop for a while and go on, as on a machine that was suspended."""

import asyncio
import signal
from datetime import UTC, datetime

from chaos.runner.supervisor import Processes


class Freezes:
    """At least one of `workers` is running: if none swept, what that takes would be measured as the product's delay."""

    def __init__(self, processes: Processes, workers: int) -> None:
        self._processes = processes
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
