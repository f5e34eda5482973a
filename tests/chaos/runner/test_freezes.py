"""Freezes that would overlap follow each other where no worker would be left."""

import asyncio
import signal
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from chaos.runner.supervisor import Freezes, supervising
from mailing.settings import Settings
from support.processes import Process, running, until


@pytest.mark.parametrize(("workers", "overlap"), [(2, False), (3, True)])
async def test_one_worker_is_left_running(tmp_path: Path, workers: int, overlap: bool) -> None:
    async with supervising(tmp_path, _asleep) as own:
        freezes = Freezes(own, workers)
        names = [own.start(f"worker-{number}", [], Settings()).name for number in range(workers)]
        await until(lambda: all(own[name].pid for name in names))
        first, second = sorted(await asyncio.gather(*(freezes.freeze(name, 0.5) for name in names[:2])))
    assert (second[0] < first[1]) == overlap


def _asleep(_arguments: Sequence[str], env: Mapping[str, str], _log: Path) -> AbstractAsyncContextManager[Process]:
    return running("sleep", "600", end=signal.SIGKILL, env=env)
