"""A mailing's whole life in one process: the API, a worker, a real gateway on a socket, a real database."""

from collections.abc import AsyncIterator

import pytest
from msgspec.structs import replace

from mailing.settings import Settings
from support.api import Api
from support.campaign import Campaign, Sandbox, running_sandbox
from support.database import Database


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with running_sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def settings(settings: Settings, sandbox: Sandbox) -> Settings:
    """Quick to retry, because the tests wait for it."""
    return replace(
        settings,
        gateway_url=sandbox.url,
        gateway_token="t",
        gateway_timeout_s=5.0,
        retry_base_s=0.05,
        retry_max_s=0.2,
        log_level="warning",
    )


@pytest.fixture
def campaign(api: Api, db: Database, settings: Settings, sandbox: Sandbox) -> Campaign:
    return Campaign(api, db, settings, sandbox)
