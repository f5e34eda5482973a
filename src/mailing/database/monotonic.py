"""The monotonic clock by which a process measures durations, including time asleep."""

import time
from collections.abc import Callable
from typing import Final

Ticks = Callable[[], float]

# Linux's CLOCK_MONOTONIC stops while a machine sleeps or a virtual machine is suspended, CLOCK_BOOTTIME does not. On
# macOS, CLOCK_MONOTONIC does not stop, but `time.monotonic` does.
_CLOCK: Final[int | None] = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))


def ticks() -> float:
    """Return seconds since an arbitrary moment, including time asleep."""
    return time.monotonic() if _CLOCK is None else time.clock_gettime(_CLOCK)
