"""A real `mailing api` process, and every flood that a stranger has for it."""

import os
import resource
from collections.abc import AsyncIterator

import pytest
from msgspec.structs import replace

from fuzz.floods import FLOODS, MEGABYTE, Seen, watched
from mailing.process.ports import free_port
from mailing.settings import Settings
from support.processes import MAILING, clean_environment, running, until_ready
from support.roles import url_as

pytestmark = pytest.mark.slow

MOST_GROWN = 150 * MEGABYTE


@pytest.fixture
async def api_process(settings: Settings) -> AsyncIterator[tuple[int, int]]:
    """Its port and its id."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
    database_url = url_as("mailing_api", str(settings.database_url))
    flooded = replace(settings, database_url=database_url, port=(port := free_port()), log_level="error")
    async with running(*MAILING, "api", env=clean_environment(flooded)) as process:
        await until_ready(f"http://127.0.0.1:{port}", process)
        yield port, process.pid


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="memory is read from /proc")  # noqa: PTH110 - a plain path in a decorator
async def test_no_flood_fills_the_memory_or_keeps_others_from_an_answer(api_process: tuple[int, int]) -> None:
    port, pid = api_process
    seen: dict[str, Seen] = {name: await watched(flood, port=port, pid=pid) for name, flood in FLOODS.items()}
    assert {name: one for name, one in seen.items() if one.grown > MOST_GROWN or not one.answered} == {}
