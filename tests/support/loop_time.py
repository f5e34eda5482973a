"""The time of the running event loop, which decides when its timers are due."""

import asyncio
import time


def now() -> float:
    return asyncio.get_running_loop().time()


def advance(seconds: float) -> None:
    """Let as much of the loop's time pass at once: every timer up to then is due. Other clocks stay as they are."""
    ahead_s = now() + seconds - time.monotonic()
    asyncio.get_running_loop().time = lambda: time.monotonic() + ahead_s  # type: ignore[method-assign] # `follow_clock` undoes it


def follow_clock() -> None:
    """Undo `advance`."""
    vars(asyncio.get_running_loop()).pop("time", None)
