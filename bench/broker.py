"""Celery's broker: a Redis of the run's own, in memory only."""

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bench.children import end, until
from mailing.process.local_stack import free_port


@dataclass(frozen=True)
class Redis:
    url: str
    pid: int


@contextmanager
def redis() -> Iterator[Redis]:
    program, port = shutil.which("redis-server"), free_port()
    command = [str(program), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)

    def answers() -> bool:
        with socket.socket() as connection:
            return connection.connect_ex(("127.0.0.1", port)) == 0

    try:
        until(answers, "redis answers", within_s=10)
        yield Redis(f"redis://127.0.0.1:{port}/0", process.pid)
    finally:
        end(process)
