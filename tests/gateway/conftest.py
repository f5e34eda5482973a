import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from support.receiver import Receiver, receiving


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


@pytest.fixture(autouse=True)
async def nothing_goes_unhandled() -> AsyncIterator[None]:
    problems: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, problem: problems.append(problem))
    yield
    asyncio.get_running_loop().set_exception_handler(None)
    assert problems == []
