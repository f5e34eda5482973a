"""End a worker that makes no progress. Whatever started the worker restarts it.

A thread beside the event loop counts its own ticks since the last beat instead of comparing clocks: a process that was
frozen as a whole has counted nothing meanwhile and continues when it thaws. By then other workers have reclaimed what
it had claimed, and the fencing token keeps its late results from counting.
"""

import asyncio
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from mailing.observability.log import get

logger = get(__name__)

TICK_S = 1.0
LOG_TIMEOUT_S = 2.0  # a blocked event loop may hold the log's lock

LOOP: Final = "the event loop"
QUEUE: Final = "the queue's database connections"
DATABASE: Final = "the database connections"


@dataclass(frozen=True)
class Limits:
    """Seconds without a beat after which the process ends."""

    loop_s: float = 30
    database_s: float = 90  # a failover takes up to 40 s; a process that ends forgets what it had acknowledged


LIMITS: Final = Limits()


class Watchdog:
    """Call `beat(QUEUE)` and `beat(DATABASE)` whenever the database answers. The watchdog beats for the event loop.

    `on_healthy` is called every second while nothing is stuck.
    """

    def __init__(self, limits: Limits, *, on_healthy: Callable[[], None] = lambda: None) -> None:
        self._on_healthy = on_healthy
        self._limits = {LOOP: limits.loop_s, QUEUE: limits.database_s, DATABASE: limits.database_s}
        self._silence = dict.fromkeys(self._limits, 0.0)
        self._stopped = threading.Event()

    def beat(self, part: str) -> None:
        self._silence[part] = 0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Watch the running event loop while the block lasts. Enter it in that loop, on its thread."""
        arguments = asyncio.get_running_loop(), threading.get_ident()
        thread = threading.Thread(target=self._run, args=arguments, name="watchdog", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stopped.set()
            thread.join()

    def _run(self, loop: asyncio.AbstractEventLoop, watched: int) -> None:
        while not self._stopped.wait(TICK_S):
            for part in self._silence:
                self._silence[part] += TICK_S
            loop.call_soon_threadsafe(self.beat, LOOP)
            for part, silence_s in self._silence.items():
                if silence_s > self._limits[part]:
                    _exit(part, silence_s, at=_place(watched))
            self._on_healthy()


def _exit(part: str, silence_s: float, *, at: str) -> None:
    fields = {"stuck": part, "for_s": silence_s, "at": at}
    logging = threading.Thread(target=logger.error, args=("no progress, ending",), kwargs=fields)
    logging.daemon = True
    logging.start()
    logging.join(LOG_TIMEOUT_S)
    os._exit(1)


def _place(thread: int) -> str:
    """Return the file and line at which the event loop's thread is."""
    frame = sys._current_frames().get(thread)  # noqa: SLF001 - its documented name
    return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame else "unknown"
