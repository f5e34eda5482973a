"""The order of tests in a parallel run: each worker gets some that wait between some that compute.

xdist cuts the list into equal parts, one for each worker. A worker that has finished its part steals from the end of
the longest one: slow tests belong into the first half.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


def distribute(slow: Sequence[Sequence[T]], fast: Sequence[Sequence[T]], workers: int) -> Iterator[T]:
    """Groups of slow tests stay whole; so do modules of fast ones, except where a worker's part ends.

    The largest group begins first, and each goes to the worker with the fewest slow tests.
    """
    modules = deque(fast)
    tests = _size(slow) + _size(fast)
    parts: list[list[Sequence[T]]] = [[] for _ in range(workers)]
    for group in sorted(slow, key=len, reverse=True):
        min(parts, key=_size).append(group)
    for worker, own in enumerate(parts):
        size = tests // (workers - worker)
        tests -= size
        yield from _mixed(own, list(_taken(modules, size - _size(own))))


def _size(groups: Iterable[Sequence[T]]) -> int:
    return sum(map(len, groups))


def _taken(modules: deque[Sequence[T]], count: int) -> Iterator[Sequence[T]]:
    while modules and count > 0:
        module = modules.popleft()
        if len(module) > count:
            modules.appendleft(module[count:])
        yield module[:count]
        count -= len(module)


def _mixed(slow: Sequence[Sequence[T]], fast: Iterable[Sequence[T]]) -> Iterator[T]:
    fast = list(fast)
    between = _size(fast) / 2 / max(len(slow), 1)
    waiting, passed, next_at = deque(slow), 0, 0.0
    for module in fast:
        while waiting and next_at < passed + len(module):
            yield from waiting.popleft()
            next_at += between
        yield from module
        passed += len(module)
    for group in waiting:
        yield from group
