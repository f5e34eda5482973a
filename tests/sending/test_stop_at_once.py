"""A worker that is asked to stop while it begins."""

import asyncio

import pytest

from mailing.settings import Settings
from mailing.worker import run_worker

pytestmark = pytest.mark.slow


async def test_a_worker_stops_at_whatever_moment_of_its_start_it_is_asked_to(settings: Settings) -> None:
    for moment in range(20):
        stop = asyncio.Event()
        worker = asyncio.create_task(run_worker(settings, stop))
        await asyncio.sleep(0.05 + 0.025 * moment)
        stop.set()
        async with asyncio.timeout(20):
            await worker
