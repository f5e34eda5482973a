"""The clock by which a process measures how long something took."""

import time
from collections.abc import Callable
from typing import Final

Ticks = Callable[[], float]

# While a machine sleeps, or a virtual one is suspended, Linux's CLOCK_MONOTONIC stands still: a process would go on as
# if no time had passed. CLOCK_BOOTTIME goes on. On macOS CLOCK_MONOTONIC does, and `time.monotonic` does not.
_GOES_ON: Final[int | None] = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))


def ticks() -> float:
    """Seconds since some moment in the past, sleep included."""
    return time.monotonic() if _GOES_ON is None else time.clock_gettime(_GOES_ON)
