"""What all workers share towards the gateway: the rate, the breaker, pauses, the stop. Two workers, one database."""

import asyncio
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.database.engine import autocommit
from mailing.gateway.actions import change_rate, probe, stop
from mailing.gateway.circuit_breaker import CallStats, close_breaker, report, take_probe
from mailing.gateway.flow_control import FlowControl, Permit
from mailing.gateway.outcome import Answer, Outcome
from mailing.gateway.repository import GatewayState, read
from mailing.reasons.codes import Reason, ReasonCode
from mailing.sending.revalidation import MAX_CHECK_AGE_S
from support.answers import Json, json_of
from support.campaign import Campaign
from support.database import Database
from support.processes import becomes

pytestmark = pytest.mark.slow

REFUSED = Reason(ReasonCode.connection_refused)
UNAUTHORIZED = Reason(ReasonCode.configuration, {"http_status": 401})


async def gateway(campaign: Campaign) -> Json:
    return json_of(await campaign.api.get("/gateway/"))


async def is_open(campaign: Campaign) -> bool:
    return bool((await gateway(campaign))["breaker"]["state"] == "open")


async def rate_of(campaign: Campaign) -> object:
    return (await gateway(campaign))["rate"]


async def begun(campaign: Campaign) -> list[datetime]:
    """When calls began, by the database's clock as the workers read it."""
    return [row.started_at for row in await campaign.db.run("SELECT started_at FROM attempt ORDER BY started_at")]


def most_in_a_second(instants: list[datetime]) -> int:
    second = timedelta(seconds=1)
    return max(sum(first <= each < first + second for each in instants) for first in instants)


async def test_three_gates_together_never_let_more_through_in_a_second_than_the_rate(db: Database) -> None:
    async with autocommit(db.sessions) as session:
        await change_rate(session, 40, by="test")
    workers = [FlowControl(db.sessions) for _ in range(3)]
    passed: list[float] = []

    async def use(flow_control: FlowControl, first: int) -> None:
        answer = await flow_control.admit(40)
        assert isinstance(answer, Permit)
        for each in range(first, first + 40):
            flow_control.reserve(each)
        await asyncio.gather(*(pass_one(flow_control, each) for each in range(first, first + 40)))

    async def pass_one(flow_control: FlowControl, message: int) -> None:
        await flow_control.wait_for_slot(message)
        passed.append(asyncio.get_running_loop().time())

    await asyncio.gather(*(use(flow_control, n * 40) for n, flow_control in enumerate(workers)))
    passed.sort()
    assert len(passed) == 120
    assert min(later - earlier for earlier, later in zip(passed, passed[40:], strict=False)) >= 1


async def test_a_call_that_needs_a_second_turn_gets_another_slot(db: Database) -> None:
    """Its connection was closed in its first turn. At 4 a second all slots of the next second are gone by then."""
    async with autocommit(db.sessions) as session:
        await change_rate(session, 4, by="test")
    flow_control, turns = FlowControl(db.sessions), list[float]()
    assert await flow_control.admit(1) == Permit(1)
    flow_control.reserve(1)
    for _ in range(6):
        await flow_control.wait_for_slot(1)
        turns.append(asyncio.get_running_loop().time())
    assert turns[4] - turns[0] >= 1


async def test_two_workers_keep_the_rate_and_a_new_one_is_taken_up_while_they_run(campaign: Campaign) -> None:
    """At 8 a second the 500 messages would take twice as long as the test's patience."""
    await campaign.clients(500)
    async with campaign.working(gateway_rate=8), campaign.working(gateway_rate=8):
        mailing = await campaign.mailing()
        await campaign.reaches(mailing, sent=30)
        assert (await gateway(campaign))["rate"] == 8
        assert most_in_a_second(await begun(campaign)) <= 8
        changed = await campaign.api.patch("/gateway/", json={"rate": 0})
        assert (changed.status_code, changed.json()["rate"]) == (200, 0)
        assert await campaign.finished(mailing) == {"planned": 500, "sent": 500}


async def test_a_rate_set_by_the_api_outlives_a_restart_and_a_new_setting_replaces_it(campaign: Campaign) -> None:
    async with campaign.working(gateway_rate=10):
        await becomes(lambda: rate_of(campaign), 10)
        await campaign.api.patch("/gateway/", json={"rate": 7.5})
    async with campaign.working(gateway_rate=10):
        await becomes(lambda: rate_of(campaign), 7.5)
    async with campaign.working(gateway_rate=20):
        await becomes(lambda: rate_of(campaign), 20)


async def test_while_the_gateway_is_down_messages_wait_for_the_breaker_and_lose_no_attempts(campaign: Campaign) -> None:
    await campaign.clients(300)
    async with campaign.working(), campaign.working():
        await campaign.sandbox.behave(error_500=1.0)
        mailing = await campaign.mailing()
        await campaign.until(lambda: is_open(campaign))
        assert "HTTP 500" in (await gateway(campaign))["breaker"]["reason"]
        await campaign.comes_to(mailing, pending=300, sending=0)
        before = await begun(campaign)
        waiting = {message["waiting_for"]["reason"] for message in await campaign.messages(mailing)}
        assert waiting <= {"breaker", "retry"}
        await campaign.until_found("SELECT 1 FROM attempt HAVING count(*) >= :calls", calls=len(before) + 2)
        probes = (await begun(campaign))[len(before) :]
        assert all(later - earlier >= timedelta(seconds=4.5) for earlier, later in pairwise([before[-1], *probes]))
        await campaign.sandbox.behave()
        await campaign.db.run("UPDATE gateway SET breaker_next_probe_at = now()")
        assert await campaign.finished(mailing) == {"planned": 300, "sent": 300}
        assert not await is_open(campaign)


async def test_a_refused_token_opens_the_breaker_at_once_and_no_attempt_is_counted(campaign: Campaign) -> None:
    await campaign.clients(300)
    async with campaign.working():
        await campaign.sandbox.behave(unauthorized_401=1.0)
        mailing = await campaign.mailing()
        await campaign.until(lambda: is_open(campaign))
        await campaign.comes_to(mailing, pending=300, sending=0)
        assert "HTTP 401" in (await gateway(campaign))["breaker"]["reason"]
        messages = await campaign.messages(mailing)
        assert {message["attempts"] for message in messages} == {0}
        assert {message["waiting_for"]["reason"] for message in messages} == {"breaker"}
        reasons = {message["status_reason"] for message in messages} - {None}
        assert reasons == {"HTTP 401, check the gateway's address and token"}
        before_any_probe = "SELECT 1 FROM attempt JOIN gateway ON started_at < breaker_opened_at + interval '3 s'"
        assert 1 <= len(await campaign.db.run(before_any_probe)) <= campaign.settings.gateway_concurrency
        await campaign.sandbox.behave()
        assert (await campaign.api.post("/gateway/probe")).status_code == 200
        await becomes(lambda: is_open(campaign), answer=False)


async def test_a_pause_the_gateway_asks_for_holds_every_worker_back(campaign: Campaign) -> None:
    await campaign.clients(300)
    async with campaign.working(), campaign.working():
        await campaign.sandbox.behave(throttle_429=1.0, retry_after_s=600)
        mailing = await campaign.mailing()
        await campaign.until_found("SELECT 1 FROM gateway WHERE paused_until > now()")
        await asyncio.sleep(MAX_CHECK_AGE_S)  # a worker may call by what it read of the gateway before
        await campaign.comes_to(mailing, pending=300, sending=0)
        calls = len(await begun(campaign))
        await campaign.sandbox.behave()
        await asyncio.sleep(2.5)  # two sweeps
        assert len(await begun(campaign)) == calls <= 2 * campaign.settings.gateway_concurrency
        untouched = [message for message in await campaign.messages(mailing) if message["status_reason"] is None]
        until = (await gateway(campaign))["throttled_until"]
        assert {tuple(message["waiting_for"].values()) for message in untouched} == {("rate", until)}
        await campaign.api.post("/gateway/probe")
        await campaign.reaches(mailing, sent=len(untouched))


async def test_the_stop_of_all_sending_holds_until_somebody_starts_again(campaign: Campaign) -> None:
    await campaign.clients(2000)
    await campaign.sandbox.behave(latency_s=0.1)
    async with campaign.working(), campaign.working():
        mailing = await campaign.mailing()
        await campaign.reaches(mailing, sent=100)
        stopped = (await campaign.api.post("/gateway/stop")).json()
        (answered,) = await campaign.db.run("SELECT clock_timestamp() AS at")
        assert stopped["stopped"]["by"] == "MAILING_API_KEY"
        await campaign.comes_to(mailing, sending=0)
        # promised from the answer: what is stored is when the transaction began, which may have waited for claims
        assert max(await begun(campaign)) <= answered.at + timedelta(seconds=1)
        assert datetime.fromisoformat(stopped["stopped"]["at"]) < answered.at
        held = (await campaign.statistics(mailing, status="pending", limit=1))["messages"]["items"]
        assert held[0]["waiting_for"] == {"reason": "pause", "until": None}
        calls = len(await begun(campaign))
        await asyncio.sleep(2.5)  # two sweeps
        assert len(await begun(campaign)) == calls
        assert not (await gateway(campaign))["sending"]
        await campaign.api.post("/gateway/start")
        assert await campaign.finished(mailing) == {"planned": 2000, "sent": 2000}
    kinds = await campaign.db.kinds()
    assert [kind for kind in kinds if kind.startswith("gateway")] == [
        "gateway.stopped",
        "gateway.started",
    ]


async def test_one_of_many_workers_gets_the_probe(db: Database) -> None:
    async with autocommit(db.sessions) as session:
        await report(session, CallStats(calls=1, failed=1, reason=UNAUTHORIZED, misconfigured=True))
        await probe(session, by="test")

    async def take() -> bool:
        async with autocommit(db.sessions) as session:
            return await take_probe(session)

    assert sum(await asyncio.gather(*(take() for _ in range(8)))) == 1


@pytest.mark.parametrize(("open_for_s", "pause_s"), [(5, 5), (40, 5), (60, 7.5), (240, 30), (3600, 60)])
async def test_probes_become_rarer_the_longer_the_breaker_is_open(
    campaign: Campaign, open_for_s: int, pause_s: float
) -> None:
    await campaign.db.run(
        """UPDATE gateway SET breaker_reason_code = 'connection_refused', breaker_next_probe_at = now(),
           breaker_opened_at = now() - make_interval(secs => :secs)""",
        secs=open_for_s,
    )
    async with autocommit(campaign.db.sessions) as session:
        assert await take_probe(session)
    left_s = await campaign.db.value("SELECT extract(epoch FROM breaker_next_probe_at - now()) FROM gateway")
    assert pause_s - 1 < left_s <= pause_s + 0.1


async def test_while_the_breaker_is_open_its_reason_is_that_of_the_newest_failure(db: Database) -> None:
    """An operator who has corrected one fault sees the next one, and not what it was an hour ago."""

    async def reason_after(**stats: Any) -> tuple[object, object]:  # noqa: ANN401 - fields of CallStats
        async with autocommit(db.sessions) as session:
            await report(session, CallStats(**stats))
            state = await read(session)
        return state.breaker_reason_code, state.breaker_reason_params

    unauthorized = (ReasonCode.configuration, {"http_status": 401})
    refused = (ReasonCode.most_calls_fail, {"last": ReasonCode.connection_refused})
    assert await reason_after(calls=1, failed=1, reason=UNAUTHORIZED, misconfigured=True) == unauthorized
    assert await reason_after(calls=1, failed=1, reason=REFUSED) == refused
    assert await reason_after(calls=1, failed=0) == refused
    assert await reason_after(calls=1, failed=1, reason=UNAUTHORIZED, misconfigured=True) == unauthorized


async def test_the_breaker_opens_when_more_than_half_of_the_calls_fail(db: Database) -> None:
    async with autocommit(db.sessions) as session:
        await report(session, CallStats(calls=20, failed=10, reason=REFUSED))
        assert (await read(session)).breaker_opened_at is None
        await report(session, CallStats(calls=1, failed=1, reason=REFUSED))
        assert (await read(session)).breaker_opened_at is not None


async def test_an_outage_after_a_busy_half_minute_is_noticed_by_its_newest_calls(campaign: Campaign) -> None:
    await campaign.db.run("""
        INSERT INTO gateway_calls SELECT date_bin('5 s', now() - n * interval '5 s', 'epoch'), 5000, 10
        FROM generate_series(1, 5) n""")
    async with autocommit(campaign.db.sessions) as session:
        await report(session, CallStats(calls=19, failed=19, reason=REFUSED))
        assert (await read(session)).breaker_opened_at is None
        await report(session, CallStats(calls=1, failed=1, reason=REFUSED))
        assert (await read(session)).breaker_opened_at is not None


async def test_calls_from_before_the_breaker_closed_do_not_open_it_again(db: Database) -> None:
    async with autocommit(db.sessions) as session:
        await report(session, CallStats(calls=30, failed=30, reason=REFUSED))
        await close_breaker(session)
        await report(session, CallStats(calls=10, failed=6, reason=REFUSED))
        assert (await read(session)).breaker_opened_at is None


async def test_what_was_seen_is_not_lost_when_the_report_fails(campaign: Campaign, db: Database) -> None:
    flow_control = FlowControl(db.sessions)
    await db.run("ALTER TABLE gateway_calls RENAME TO hidden")
    flow_control.record(Answer(Outcome.accepted, 200, 0), probe=False)
    with pytest.raises(Exception, match="gateway_calls"):
        await flow_control.refresh()
    await db.run("ALTER TABLE hidden RENAME TO gateway_calls")
    await flow_control.refresh()
    assert (await gateway(campaign))["last_30_s"]["calls"] == 1


async def test_an_older_reading_that_is_answered_later_does_not_replace_a_newer_one(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise calls would begin although this worker had read of the stop."""
    is_read, may_end = asyncio.Event(), asyncio.Event()

    async def delayed(session: AsyncSession) -> GatewayState:
        state = await read(session)
        is_read.set()
        await may_end.wait()
        return state

    flow_control = FlowControl(db.sessions)
    monkeypatch.setattr("mailing.gateway.flow_control.read", delayed)
    older = asyncio.create_task(flow_control.refresh())
    await is_read.wait()
    monkeypatch.setattr("mailing.gateway.flow_control.read", read)
    await db.commit(stop, by="test")
    await flow_control.refresh()
    may_end.set()
    await older
    assert not flow_control.may_call(probe=False)


@pytest.mark.parametrize(
    "answer",
    [
        Answer(Outcome.configuration, 401, reason=ReasonCode.configuration),
        Answer(Outcome.throttled, 429, retry_after_s=60),
    ],
    ids=["a wrong token", "a pause"],
)
async def test_what_a_call_heard_closes_its_own_gate_before_the_others_are_told(db: Database, answer: Answer) -> None:
    flow_control = FlowControl(db.sessions)
    await flow_control.refresh()
    assert flow_control.may_call(probe=False)
    flow_control.record(answer, probe=False)
    assert not flow_control.may_call(probe=False)
    telling = asyncio.create_task(flow_control.refresh())
    await asyncio.sleep(0)
    assert not flow_control.may_call(probe=False)
    await telling
    assert not flow_control.may_call(probe=False)
