from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from chaos.gateway.server import Gateway, listening


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return tmp_path / "ledger"


@pytest.fixture
async def gateway(ledger: Path) -> AsyncIterator[Gateway]:
    async with listening(ledger, seed=1) as gateway:
        yield gateway
