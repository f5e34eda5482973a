"""Keep child processes running until told to stop, and leave none behind.

Each child leads a session of its own, so Ctrl-C in the terminal reaches only the supervisor, which then ends the
children. A child's standard input is a pipe that only the supervisor holds. When the supervisor dies, even by kill -9,
the child reads end-of-file from it (`exit_with_parent`). Output is inherited.
"""

import asyncio
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

EXIT_USAGE = 2  # wrong usage or configuration: a restart would not help
GRACE_S = 10.0
MAX_RECORDING_S = 5.0  # what a worker that stops may take to record results, beside its longest call
OUTPUTS = (1, 2)  # a pipe with room for a page takes a line without blocking
MAX_RESTART_DELAY_S = 5.0
STABLE_AFTER_S = 30.0  # a child that ran this long is restarted without delay again


@dataclass(frozen=True, slots=True)
class Child:
    """`env` is the complete environment, not an addition to ours."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: Path | None = None


@dataclass(frozen=True, slots=True)
class Signals:
    """`stop` asks the children to end, `kill` kills them."""

    stop: asyncio.Event = field(default_factory=asyncio.Event)
    kill: asyncio.Event = field(default_factory=asyncio.Event)

    def listen(self) -> None:
        """Set `stop` at the first signal that asks to end, `kill` at the next."""
        on_signal_to_end(self.advance)

    def advance(self) -> None:
        (self.kill if self.stop.is_set() else self.stop).set()


def on_signal_to_end(act: Callable[[], object]) -> None:
    """Call `act` at Ctrl-C, SIGTERM and the end of the terminal. nohup's SIGHUP stays ignored."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            asyncio.get_running_loop().add_signal_handler(number, act)


def worker_grace_s(gateway_timeout_s: float) -> float:
    """Return how long a worker may take to end: its calls go on, and are recorded."""
    return gateway_timeout_s + MAX_RECORDING_S


async def supervise(
    children: Sequence[Child], *, signals: Signals, on_event: Callable[[str], None], grace_s: float | None = None
) -> Child | None:
    """Run the children until all have ended. Return the child that exited with EXIT_USAGE and so stopped all, if any.

    After `stop`, children have `grace_s` to end (default: GRACE_S). Cancelling kills them.
    """
    grace_s = GRACE_S if grace_s is None else grace_s
    tell = undisturbed(on_event)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_keep_running(child, signals, tell, grace_s)) for child in children]
    return next((child for child, task in zip(children, tasks, strict=True) if task.result() == EXIT_USAGE), None)


def undisturbed(on_event: Callable[[str], None]) -> Callable[[str], None]:
    """Return an `on_event` that drops what cannot be written, as to a full disk, or a pipe that is closed or full.

    Its reader may have stopped: the write would never return, and no signal would be obeyed.
    """

    def tell(what: str) -> None:
        with suppress(OSError):
            if len(select.select([], OUTPUTS, [], 0)[1]) == len(OUTPUTS):
                on_event(what)

    return tell


def exit_with_parent(*, grace_s: float = GRACE_S) -> None:
    """End this process when its supervisor dies: with SIGTERM, then `grace_s` later at once.

    It uses a thread, so that a blocked event loop cannot keep the process alive.
    """

    def watch() -> None:
        with suppress(OSError):
            while os.read(0, 1024):
                pass
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(grace_s)
        os._exit(1)

    threading.Thread(target=watch, name="exit-with-parent", daemon=True).start()


def delay_before_restart(quick_deaths: int) -> float:
    """Return 0, 0.5, 1, 2, 4, 5, 5 … seconds for the first, second, third … death in a row."""
    return 0.0 if quick_deaths <= 1 else min(MAX_RESTART_DELAY_S, 2.0 ** min(quick_deaths - 3, 10))


async def _keep_running(child: Child, signals: Signals, on_event: Callable[[str], None], grace_s: float) -> int | None:
    """Keep a child running. Return EXIT_USAGE if it exited so, None after `stop`."""
    quick_deaths = 0
    while not signals.stop.is_set():
        started = time.monotonic()
        end, status = await _run_once(child, signals, grace_s)
        if signals.stop.is_set():
            if status not in {0, -signal.SIGTERM}:
                on_event(f"{child.name} {end}")
            return None
        if status == EXIT_USAGE:
            on_event(f"{child.name} {end} (wrong usage or configuration); stopping")
            signals.stop.set()
            return status
        quick_deaths = 1 if time.monotonic() - started >= STABLE_AFTER_S else quick_deaths + 1
        delay = delay_before_restart(quick_deaths)
        on_event(f"{child.name} {end}; restarting {f'in {delay:g} s' if delay else 'now'}")
        with suppress(TimeoutError):
            await asyncio.wait_for(signals.stop.wait(), delay)
    return None


async def _run_once(child: Child, signals: Signals, grace_s: float) -> tuple[str, int | None]:
    """Run a child once. Return how it ended, in words, and its exit status.

    The status is the negative signal number of a killed child, and None if it could not be started.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *child.argv, env=child.env, cwd=child.cwd, stdin=asyncio.subprocess.PIPE, start_new_session=True
        )
    except OSError as error:
        return f"cannot be started ({error.strerror})", None
    ended = asyncio.create_task(process.wait())
    try:
        await _first(ended, signals.stop)
        if not ended.done():
            with suppress(ProcessLookupError, TimeoutError):
                process.terminate()
                await asyncio.wait_for(_first(ended, signals.kill), grace_s)
    finally:
        _kill_session(process.pid)
        status = await ended
    return f"(pid {process.pid}) {_in_words(status)}", status


async def _first(task: asyncio.Task[int], event: asyncio.Event) -> None:
    happened = asyncio.create_task(event.wait())
    try:
        await asyncio.wait((task, happened), return_when=asyncio.FIRST_COMPLETED)
    finally:
        happened.cancel()


def _kill_session(leader: int) -> None:
    """Kill a child and everything it started. macOS answers EPERM if only zombies are left."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def _in_words(status: int) -> str:
    if status >= 0:
        return f"exited with status {status}"
    names = {number.value: number.name for number in signal.Signals}
    return f"was killed by {names.get(-status, f'signal {-status}')}"
