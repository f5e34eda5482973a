"""A failover under a running campaign: sending goes on by itself, each message once, none in doubt."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest

from mailing import worker
from mailing.job_queue import worker as queue_worker
from mailing.job_queue.worker import MAX_OUTAGE, Queue
from mailing.restore import witness
from mailing.settings import Settings
from support.api import KEY, running_api
from support.campaign import Campaign, Sandbox
from support.database import open_database
from support.failover import Pair

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("failover"), pytest.mark.timeout(300)]

CLIENTS = 24


@pytest.fixture(autouse=True)
def _short_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """For what a worker waits for until it concludes: a statement without an answer, another process that objects."""
    monkeypatch.setattr(worker, "WORKER_LIMIT_S", 6)
    monkeypatch.setattr(worker, "Queue", partial(Queue, timeout_s=2))
    monkeypatch.setattr(queue_worker, "MAX_OUTAGE", 5 * MAX_OUTAGE)  # as many seconds as without the line above
    monkeypatch.setattr(witness, "GRACE_S", 2.5)


@pytest.fixture
def settings(sandbox: Sandbox, pair: Pair, request: pytest.FixtureRequest) -> Settings:
    """Declared lossless, if the test does not say otherwise."""
    return Settings(
        database_url=pair.url,
        api_key=KEY,
        failover=getattr(request, "param", "lossless"),
        gateway_url=sandbox.url,
        gateway_token="t",
        gateway_timeout_s=5.0,
        gateway_concurrency=4,
        log_level="warning",
    )


@pytest.fixture
async def campaign(settings: Settings, sandbox: Sandbox) -> AsyncIterator[Campaign]:
    async with open_database(str(settings.database_url), pool_size=2) as db, running_api(settings) as api:
        yield Campaign(api, db, settings, sandbox)


@asynccontextmanager
async def _sending(campaign: Campaign) -> AsyncIterator[int]:
    """A worker has sent a quarter of a mailing."""
    await campaign.clients(CLIENTS)
    await campaign.sandbox.behave(latency_s=0.4)
    async with campaign.working():
        mailing = await campaign.mailing()
        await campaign.reaches(mailing, sent=CLIENTS // 4)
        yield mailing


async def _each_once(campaign: Campaign, mailing: int) -> None:
    assert await campaign.finished(mailing) == {"planned": CLIENTS, "sent": CLIENTS}
    assert [item["repeats"] for item in await campaign.sandbox.ledger()] == [0] * CLIENTS
    assert await campaign.db.run("SELECT message_id FROM attempt WHERE outcome = 'ambiguous'") == []
    assert await campaign.db.run("SELECT kind FROM event WHERE kind LIKE 'database.%'") == [("database.failed_over",)]


async def test_after_a_failover_sending_goes_on_by_itself_and_no_message_is_in_doubt(
    campaign: Campaign, pair: Pair
) -> None:
    async with _sending(campaign) as mailing:
        await asyncio.to_thread(pair.fail_over)
        await _each_once(campaign, mailing)


async def test_a_primary_that_stands_still_is_left_for_the_new_one(campaign: Campaign, pair: Pair) -> None:
    """It accepts connections and stays silent, before the new one in the address. Thawed, it is no longer asked."""
    async with _sending(campaign) as mailing:
        pair.primary.freeze()
        for _ in range(3):
            began = time.monotonic()
            answer = await campaign.api.get("/mailings/")
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
            assert time.monotonic() - began < 15, "4 to 5 s on a machine that is not busy"
        await asyncio.to_thread(pair.promote)
        await _each_once(campaign, mailing)
        pair.primary.thaw()
        assert await campaign.counts(mailing) == {"planned": CLIENTS, "sent": CLIENTS}
        assert (await campaign.api.get("/gateway/")).json()["sending"]
        pair.primary.stop()  # it answers no COMMIT without its standby: what is connected to it would wait


@pytest.mark.parametrize("settings", ["restore"], indirect=True)
async def test_without_the_declaration_the_api_says_why_nothing_is_sent(campaign: Campaign, pair: Pair) -> None:
    await campaign.until_found("SELECT 1 FROM witness WHERE kind = 'api' AND tick > 1")  # else it is a newcomer
    assert (await campaign.api.get("/gateway/")).json()["restored_because"] == []
    await asyncio.to_thread(pair.fail_over)

    async def told() -> bool:
        state = (await campaign.api.get("/gateway/")).json()
        return bool(state.get("restored_because") == ["undeclared"] and state["restored"] and not state["sending"])

    await campaign.until(told)
