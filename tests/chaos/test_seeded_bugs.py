"""The checker is checked: it finds every bug planted into the product, and nothing in the product as it is."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from chaos.bugs import BUGS, Bug
from chaos.checker import check
from chaos.duplicates import KILLED, duplicates
from chaos.scenarios import SCENARIOS, Scenario, worker_dies_during_calls
from chaos.stage import Stage, staged
from mailing.db import Sessions
from mailing.settings import Settings
from sending.conftest import Campaign


@pytest.fixture
async def stage(settings: Settings, api: httpx.AsyncClient, sessions: Sessions, tmp_path: Path) -> AsyncIterator[Stage]:
    async with staged(settings, Campaign(api, sessions), tmp_path) as stage:
        yield stage


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
async def test_the_product_as_it_is_breaks_nothing(scenario: Scenario, stage: Stage) -> None:
    await scenario(stage)
    evidence = await stage.evidence()
    assert check(evidence) == []
    assert evidence.messages
    assert evidence.counters


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
async def test_a_planted_bug_is_found(bug: Bug, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    bug.plant(monkeypatch)
    for statement in bug.schema:
        await stage.alter(statement)
    stage.patience_s = bug.patience_s
    await bug.shown_by(stage)
    assert bug.breaks in {violation.invariant for violation in check(await stage.evidence())}


async def test_what_a_dead_worker_repeats_is_put_down_to_its_kill(stage: Stage) -> None:
    await worker_dies_during_calls(stage)
    account = duplicates(await stage.evidence())
    assert account.by_reason == {KILLED: 5}
    assert account.within_bound
