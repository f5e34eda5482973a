"""The rate of a key, over processes that share a database."""

import asyncio

import pytest
from msgspec import structs

from mailing.access.rate_limit import BURST_S, RESERVATIONS_PER_S, RateLimiter
from mailing.errors import TooMany
from mailing.settings import Settings
from support.api import running_api
from support.database import Database

RATE = 20


async def taken(allowance: RateLimiter, caller: str, tries: int) -> int:
    done = 0
    for _ in range(tries):
        try:
            await allowance.take(caller)
        except TooMany:
            continue
        done += 1
    return done


async def stop_the_clock(db: Database) -> None:
    """No time passes for what was drawn, for some seconds."""
    await db.run("UPDATE api_rate_limit SET tat = tat + interval '9 s'")


async def test_processes_together_give_no_more_than_the_burst(db: Database) -> None:
    processes = [RateLimiter(db.sessions, RATE) for _ in range(4)]
    await db.run("INSERT INTO api_rate_limit VALUES ('crm', now() - interval '1 hour')")
    before = await db.value("SELECT clock_timestamp()")
    counts = await asyncio.gather(*(taken(process, "crm", 200) for process in processes))
    passed = (await db.value("SELECT clock_timestamp()") - before).total_seconds()
    assert RATE * BURST_S <= sum(counts) <= RATE * (BURST_S + passed)


async def test_a_key_that_used_up_its_allowance_leaves_others_alone(db: Database) -> None:
    allowance = RateLimiter(db.sessions, RATE)
    await allowance.take("crm")
    await stop_the_clock(db)
    assert await taken(allowance, "crm", 10) == RATE // RESERVATIONS_PER_S - 1
    assert await taken(allowance, "shop", 10) == 10


async def test_a_draw_serves_many_requests(db: Database) -> None:
    allowance = RateLimiter(db.sessions, 1000)
    assert await taken(allowance, "crm", 100) == 100
    first = await db.value("SELECT tat FROM api_rate_limit")
    await allowance.take("crm")
    assert await db.value("SELECT tat > :first FROM api_rate_limit", first=first)


async def test_a_key_goes_on_after_the_databases_clock_went_back(db: Database) -> None:
    await taken(RateLimiter(db.sessions, RATE), "crm", 1)
    await db.run("UPDATE api_rate_limit SET tat = tat + interval '1 hour'")
    assert await taken(RateLimiter(db.sessions, RATE), "crm", 1) == 1
    assert await db.value("SELECT tat <= now() FROM api_rate_limit")


async def test_without_a_rate_nothing_is_counted(db: Database) -> None:
    assert await taken(RateLimiter(db.sessions, 0), "crm", 1000) == 1000
    assert await db.value("SELECT count(*) FROM api_rate_limit") == 0


async def test_too_many_requests_are_answered_429_with_when_to_come_again(settings: Settings, db: Database) -> None:
    async with running_api(structs.replace(settings, api_rate=10)) as api:
        assert (await api.get("/clients/")).status_code == 200
        await stop_the_clock(db)
        answer = await api.get("/clients/")
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
        assert answer.json()["detail"] == "This key may make 10 requests a second; try again in a second."


@pytest.mark.parametrize("path", ["/health/live", "/docs/openapi.json"])
async def test_health_and_documentation_have_no_rate(settings: Settings, path: str) -> None:
    async with running_api(structs.replace(settings, api_rate=1)) as api:
        answers = [await api.get(f"http://test{path}") for _ in range(20)]
    assert {answer.status_code for answer in answers} == {200}
