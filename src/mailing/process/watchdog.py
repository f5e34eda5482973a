"""Ends a worker that makes no progress; what started it starts it again.

A thread beside the event loop counts its own ticks since the last sign of life. It compares no clocks: a process that
was frozen as a whole has counted nothing meanwhile, and simply goes on when it thaws. What it had claimed is another's
by then, and the fence (`claim_no`) keeps its late results from counting.
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
LOGGING_S = 2.0  # the blocked loop may hold the log's lock

LOOP: Final = "the event loop"
QUEUE: Final = "the queue's database connections"
DATABASE: Final = "the database connections"


@dataclass(frozen=True)
class Limits:
    """Seconds without a sign of life."""

    loop_s: float = 30
    database_s: float = 40


LIMITS: Final = Limits()


def _nothing() -> None:
    pass


class Watchdog:
    """`heard(QUEUE)` and `heard(DATABASE)` are for whoever got an answer; the event loop's pulse it takes itself.

    `alive` is called every second while nothing is stuck.
    """

    def __init__(self, limits: Limits, *, alive: Callable[[], None] = _nothing) -> None:
        self._alive = alive
        self._most = {LOOP: limits.loop_s, QUEUE: limits.database_s, DATABASE: limits.database_s}
        self._silent = dict.fromkeys(self._most, 0.0)
        self._over = threading.Event()

    def heard(self, part: str) -> None:
        self._silent[part] = 0

    @contextmanager
    def watching(self) -> Iterator[None]:
        """To be entered in the event loop that is watched, by the thread that runs it."""
        arguments = asyncio.get_running_loop(), threading.get_ident()
        thread = threading.Thread(target=self._watch, args=arguments, name="watchdog", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()

    def _watch(self, loop: asyncio.AbstractEventLoop, watched: int) -> None:
        while not self._over.wait(TICK_S):
            for part in self._silent:
                self._silent[part] += TICK_S
            loop.call_soon_threadsafe(self.heard, LOOP)
            for part, silent_s in self._silent.items():
                if silent_s > self._most[part]:
                    _end(part, silent_s, at=_place(watched))
            self._alive()


def _end(part: str, silent_s: float, *, at: str) -> None:
    said = threading.Thread(
        target=logger.error, args=("no progress, ending",), kwargs={"stuck": part, "for_s": silent_s, "at": at}
    )
    said.daemon = True
    said.start()
    said.join(LOGGING_S)
    os._exit(1)


def _place(thread: int) -> str:
    """Where the event loop's thread stands."""
    frame = sys._current_frames().get(thread)  # noqa: SLF001 - its documented name
    return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame else "unknown"
