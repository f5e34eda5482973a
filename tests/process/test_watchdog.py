"""Real processes: a watchdog ends the one it watches."""

import asyncio
import json
import os
import re
import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from support.processes import is_running, running

PATIENCE_S = 60
WATCHED = """
import asyncio, logging, sys, time
from mailing.observability import log
from mailing.process import watchdog
from mailing.process.watchdog import DATABASE, QUEUE, Limits, Watchdog

log.configure(level="info", style="json")
watchdog.TICK_S = 0.1

async def main():
    dog = Watchdog(Limits(loop_s=1, database_s=1.5))
    with dog.running():
        print("watched", flush=True)
        {body}
    print("left", flush=True)

asyncio.run(main())
"""
HEARD = "[(dog.beat(QUEUE), dog.beat(DATABASE), await asyncio.sleep(0.1)) for _ in range(10_000)]"


@asynccontextmanager
async def watched(body: str) -> AsyncIterator[asyncio.subprocess.Process]:
    program = (sys.executable, "-c", WATCHED.format(body=body))
    async with running(*program, stdout=PIPE, stderr=PIPE, end=signal.SIGKILL) as process:
        assert process.stdout
        assert await process.stdout.readline() == b"watched\n"
        yield process


@pytest.mark.parametrize(
    ("body", "stuck"),
    [
        ("time.sleep(60)", "the event loop"),
        ("[(dog.beat(QUEUE), await asyncio.sleep(0.1)) for _ in range(600)]", "the database connections"),
        ("[(dog.beat(DATABASE), await asyncio.sleep(0.1)) for _ in range(600)]", "the queue's database connections"),
    ],
)
async def test_what_gives_no_sign_of_life_ends_the_process_with_one_line_that_says_why(body: str, stuck: str) -> None:
    async with watched(body) as process, asyncio.timeout(PATIENCE_S):
        assert process.stderr
        said = (await process.stderr.read()).decode().splitlines()
        assert await process.wait() == 1
    assert len(said) == 1
    line = json.loads(said[0])
    assert line["stuck"] == stuck
    assert re.fullmatch(r"\S+:\d+", line["at"])


async def test_it_ends_the_process_even_where_the_blocked_loop_holds_the_log() -> None:
    async with watched("logging.getLogger().handlers[0].acquire(); time.sleep(60)") as process:
        assert await asyncio.wait_for(process.wait(), PATIENCE_S) == 1


async def test_a_process_that_was_frozen_longer_than_any_limit_goes_on_when_it_thaws() -> None:
    async with watched(HEARD) as process:
        process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(3)
        process.send_signal(signal.SIGCONT)
        await asyncio.sleep(1)
        assert is_running(process.pid)


async def test_whoever_is_no_longer_watched_may_take_its_time() -> None:
    async with watched("pass") as process, asyncio.timeout(PATIENCE_S):
        assert process.stdout
        assert await process.stdout.readline() == b"left\n"
        assert await process.wait() == os.EX_OK
