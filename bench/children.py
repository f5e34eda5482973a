"""Measured processes: each prints `ready`, starts on command, prints `done`, and ends when its input is closed.

So neither its start nor its end is measured. None is started again: a process that dies has failed the measurement.
"""

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from bench.cost import Meter, peak_memory_mb
from bench.errors import BenchError

PATIENCE_S = 600.0
STOP_S = 40.0


def program(name: str) -> str | None:
    """Find a program's path, also in sbin, where Debian installs nginx."""
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")


class Child:
    """`python -m module`, with `values` as JSON in its only argument. Its other side is `bench.follow`."""

    def __init__(
        self, module: str, values: Mapping[str, Any], log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self._log = log
        self._name = module
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, json.dumps(values)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, **(environment or {})},
            )
        self._read = b""
        self.result: dict[str, Any] = {}

    def __enter__(self) -> Self:
        self._hear("ready")
        return self

    def __exit__(self, *_: object) -> None:
        end(self._process)

    @property
    def pid(self) -> int:
        return self._process.pid

    def go(self) -> None:
        assert self._process.stdin
        self._process.stdin.write(b"go\n")
        self._process.stdin.flush()

    def finish(self) -> None:
        """Wait until it is done. Its result is in `result`."""
        self.result = self._hear("done")

    def work(self, groups: Mapping[str, int]) -> Meter:
        """Start the work and wait until it is done."""
        with Meter({"party": self.pid, **groups}) as meter:
            self.go()
            self.finish()
        return meter

    def _hear(self, word: str) -> dict[str, Any]:
        assert self._process.stdout
        give_up_at = time.monotonic() + PATIENCE_S
        while b"\n" not in self._read:
            readable, _, _ = select.select([self._process.stdout], [], [], max(0.0, give_up_at - time.monotonic()))
            heard = os.read(self._process.stdout.fileno(), 65_536) if readable else b""
            if not heard:
                raise BenchError(f"{self._name} was to say {word!r} and did not; see {self._log}")
            self._read += heard
        line, _, self._read = self._read.partition(b"\n")
        found, _, rest = line.decode().partition(" ")
        if found != word:
            raise BenchError(f"{self._name} printed {found!r} instead of {word!r}; see {self._log}")
        return dict(json.loads(rest)) if rest else {}


def complete(module: str, values: Mapping[str, Any], log: Path, environment: Mapping[str, str] | None = None) -> None:
    """Do the work of a child that is not measured."""
    with Child(module, values, log, environment) as child:
        child.go()
        child.finish()


@contextmanager
def running(
    command: Sequence[str], log: Path, *, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process that is not told when to start, until the block ends."""
    with log.open("ab") as output:
        process = subprocess.Popen(command, env=env, cwd=cwd, stdout=output, stderr=output)
    try:
        yield process
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """End the process by closing its input or by SIGTERM, and if that is not enough, by SIGKILL."""
    for stream in (process.stdin, process.stdout):
        if stream:
            stream.close()
    if process.poll() is None and not process.stdin:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def run(
    command: Sequence[str],
    groups: Mapping[str, int],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> tuple[Meter, float, str]:
    """Run a command. Return its cost, its peak memory in MB and its output."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env, cwd=cwd)
    peak_mb = 0.0
    with Meter(groups) as meter:
        own = Meter({"party": process.pid})
        with own:
            while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                peak_mb = max(peak_mb, peak_memory_mb(process.pid))
                time.sleep(0.02)
    meter.cpu_s["party"] = own.cpu_s["party"]
    printed = process.communicate()[0].decode()
    if process.returncode:
        raise BenchError(f"{command} ended with {process.returncode}: {printed[-2000:]}")
    return meter, peak_mb, printed


def until(holds: Callable[[], bool], what: str, *, every_s: float = 0.02, within_s: float = PATIENCE_S) -> None:
    give_up_at = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > give_up_at:
            raise BenchError(f"{what} not within {within_s:.0f} s")
        time.sleep(every_s)
