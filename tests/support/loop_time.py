"""The time of the running event loop, which decides when its timers are due."""

import asyncio


def advance(seconds: float) -> None:
    """Let as much of the loop's time pass at once: every timer up to then is due. Other clocks stay as they are."""
    loop = asyncio.get_running_loop()
    before = loop.time
    loop.time = lambda: before() + seconds  # type: ignore[method-assign] # the loop ends with the test
