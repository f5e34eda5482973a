"""`mailing worker --processes`: real processes, a real database."""

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from support.processes import MAILING, clean_environment, is_running, running, until

pytestmark = pytest.mark.slow

PATIENCE_S = 100.0  # a worker process may take long to start on a busy machine
Lines = Callable[[str], list[dict[str, Any]]]


@asynccontextmanager
async def worker_pool(
    database_url: str, directory: Path, processes: int
) -> AsyncIterator[tuple[asyncio.subprocess.Process, Lines]]:
    """Yield the supervisor and a function that reads the lines of its log by their event."""
    log = directory / "log"
    env = clean_environment(
        MAILING_DATABASE_URL=database_url,
        MAILING_GATEWAY_URL="http://127.0.0.1:1/v1",
        MAILING_LOG_FORMAT="json",
        TMPDIR=str(directory),
    )

    def lines(event: str) -> list[dict[str, Any]]:
        return [line for line in map(json.loads, log.read_text().splitlines()) if line["event"] == event]

    command = (*MAILING, "worker", "--processes", str(processes))
    async with running(*command, env=env, cwd=directory, log=log, end=signal.SIGKILL) as supervisor:
        yield supervisor, lines


def pids(directory: Path) -> set[int]:
    """Of workers, by their signs of life."""
    found = {int(path.stem.rpartition("-")[2]) for path in directory.glob("mailing-worker-*.heartbeat")}
    return {pid for pid in found if is_running(pid)}


async def test_a_killed_worker_comes_back_and_sigterm_ends_all_of_them_cleanly(
    database_url: str, tmp_path: Path
) -> None:
    async with worker_pool(database_url, tmp_path, 2) as (supervisor, lines):
        await until(lambda: len(lines("worker started")) == 2, seconds=PATIENCE_S)
        assert {line["worker"] for line in lines("worker started")} == {1, 2}
        first = pids(tmp_path)
        assert len(first) == 2
        killed = first.pop()
        os.kill(killed, signal.SIGKILL)
        await until(lambda: len(lines("worker started")) == 3, seconds=PATIENCE_S)
        (told,) = lines("worker process ended")
        assert f"(pid {killed}) was killed by SIGKILL; restarting now" in told["what"]
        second = pids(tmp_path)
        assert first < second
        supervisor.terminate()
        async with asyncio.timeout(PATIENCE_S):
            assert await supervisor.wait() == 0
        assert len(lines("worker stopped")) == 2
        assert len(lines("workers stopped")) == 1
        assert not any(is_running(pid) for pid in second)


async def test_no_worker_outlives_its_supervisor(database_url: str, tmp_path: Path) -> None:
    async with worker_pool(database_url, tmp_path, 2) as (supervisor, lines):
        await until(lambda: len(lines("worker started")) == 2, seconds=PATIENCE_S)
        workers = pids(tmp_path)
        supervisor.kill()
        await until(lambda: not any(is_running(pid) for pid in workers), seconds=PATIENCE_S)


def test_a_wrong_setting_is_told_once_and_no_worker_is_started(tmp_path: Path) -> None:
    argv = [*MAILING, "worker", "--processes", "2"]
    env = {"PATH": os.defpath, "MAILING_DATABASE_URL": "postgresql://localhost/x", "TMPDIR": str(tmp_path)}
    ended = subprocess.run(argv, env=env, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=100)  # noqa: S603 - our own command
    assert ended.returncode == 2
    assert ended.stderr == "mailing: MAILING_GATEWAY_URL is needed; set it, see .env.example\n"
