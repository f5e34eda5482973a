"""Celery's broker: a Redis of the run's own, in memory only."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.children import running, until
from mailing.process.ports import free_port
from support.processes import is_listening


@dataclass(frozen=True)
class Redis:
    url: str
    pid: int


@contextmanager
def redis() -> Iterator[Redis]:
    program, port = shutil.which("redis-server"), free_port()
    command = [str(program), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with running(command, Path(os.devnull)) as process:
        until(lambda: is_listening(port), "redis answers", within_s=10)
        yield Redis(f"redis://127.0.0.1:{port}/0", process.pid)
