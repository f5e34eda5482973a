"""The checker checked: it finds each bug that is put into the product, and nothing in the product as it is."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from msgspec.structs import replace

from chaos.checker.mutants import MUTANTS, Mutant
from chaos.checker.scenarios import Scenario
from chaos.checker.testbed import Stage
from chaos.gateway.server import Gateway
from mailing.settings import Settings
from support.api import Api, running_api
from support.campaign import ApiCaller, working
from support.database import Database


@pytest.fixture
def settings(settings: Settings, gateway: Gateway) -> Settings:
    """Quick to retry, because the tests wait for it."""
    return replace(
        settings,
        gateway_url=f"http://127.0.0.1:{gateway.port}/v1",
        gateway_token="t",
        gateway_timeout_s=10.0,
        retry_base_s=0.05,
        retry_max_s=0.2,
        log_level="error",
    )


@pytest.fixture
async def api(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """With a provider whose receipts it takes; the worker calls the gateway by another contract."""
    taking = replace(settings, gateway_provider="kannel", public_url="http://127.0.0.1")
    async with running_api(taking) as client:
        yield client


@pytest.fixture
def stage(api: Api, db: Database, gateway: Gateway, ledger: Path, settings: Settings) -> Stage:
    return Stage(ApiCaller(api, db), gateway, ledger, settings, working)


@pytest.mark.heavy
@pytest.mark.parametrize(
    "scenario", dict.fromkeys(mutant.scenario for mutant in MUTANTS.values()), ids=lambda s: s.__name__
)
async def test_the_product_as_it_is_breaks_no_invariant(scenario: Scenario, stage: Stage) -> None:
    await scenario(stage)
    assert await stage.violations() == []


def test_every_bug_can_still_be_put_into_the_product() -> None:
    for mutant in MUTANTS.values():
        with pytest.MonkeyPatch.context() as monkeypatch:
            for patch in mutant.patches:
                patch(monkeypatch)


@pytest.mark.heavy
@pytest.mark.parametrize("mutant", MUTANTS.values(), ids=MUTANTS)
async def test_a_bug_is_found(mutant: Mutant, stage: Stage, db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    for statement in mutant.schema:
        await db.run(statement)
    for patch in mutant.patches:
        patch(monkeypatch)
    stage.is_faulty = True
    await mutant.scenario(stage)
    assert mutant.invariant in {violation.invariant for violation in await stage.violations()}
