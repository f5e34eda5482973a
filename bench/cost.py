"""CPU time and memory of a process with all its descendants. Linux only: read from /proc."""

import os
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Self

TICKS = os.sysconf("SC_CLK_TCK")
MB = 1024  # /proc reports kB


def cpu_s(root: int) -> float:
    """Return user and system time since the start. An ended descendant counts once its parent has waited for it."""
    return sum(sum(int(ticks) for ticks in fields[11:15]) for fields in _family(root)) / TICKS


def memory_mb(root: int) -> float:
    """Return the memory of the process tree, counting shared pages once."""
    return sum(_kilobytes(Path(f"/proc/{fields[-1]}/smaps_rollup"), "Pss:") for fields in _family(root)) / MB


def peak_memory_mb(pid: int) -> float:
    """Return the peak memory of one process, since it has run its program."""
    return _kilobytes(Path(f"/proc/{pid}/status"), "VmHWM:") / MB


class Meter:
    """Measure wall time and CPU seconds of a block for each group of processes, given by name and roots."""

    def __init__(self, groups: Mapping[str, int]) -> None:
        self._groups = groups
        self.seconds = 0.0
        self.cpu_s: dict[str, float] = {}

    def __enter__(self) -> Self:
        self._before = self._read()
        self._began = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.monotonic() - self._began
        self.cpu_s = {name: after - self._before[name] for name, after in self._read().items()}

    def _read(self) -> dict[str, float]:
        return {name: cpu_s(root) for name, root in self._groups.items()}


def _family(root: int) -> Iterator[list[str]]:
    """Return the fields of each `stat` from the third on, with the process id as the last."""
    stats: dict[int, list[str]] = {}
    children: defaultdict[int, list[int]] = defaultdict(list)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(entry)):
            stats[int(entry.name)] = [*fields, entry.name]
            children[int(fields[1])].append(int(entry.name))
    waiting = [root]
    while waiting:
        pid = waiting.pop()
        waiting += children[pid]
        if pid in stats:
            yield stats[pid]


def _stat(entry: Path) -> list[str]:
    """Read `stat`. It is empty if the process has just ended."""
    try:
        return (entry / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _kilobytes(file: Path, name: str) -> int:
    try:
        lines = file.read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith(name))
