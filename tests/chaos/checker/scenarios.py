"""Small campaigns that go right only if the product keeps its promises; each ends when nothing moves any more."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from chaos.checker.deeds import CANCEL, DELETE, OPT_OUT, PAUSE, RESUME, Subject, edit, from_now
from chaos.checker.facts import Call
from chaos.checker.testbed import Stage
from chaos.gateway.ledger import calls_in
from mailing.gateway.circuit_breaker import MIN_CALLS

Scenario = Callable[[Stage], Awaitable[None]]

SLOW = """
    CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(2); RETURN NULL; END $$"""
ATTEMPTED = "SELECT 1 FROM attempt WHERE outcome = :outcome HAVING count(DISTINCT message_id) >= :least"
CLAIMED = "SELECT 1 FROM message WHERE status = 'sending' HAVING count(*) >= :least"
SENT = "SELECT 1 FROM message WHERE status = 'sent' HAVING count(*) >= :least"
PLANNED = "SELECT 1 FROM mailing HAVING bool_and(planned_revision = plan_revision)"
PLAN_WAITS = "SELECT 1 FROM pg_locks WHERE relation = 'plan_lock'::regclass AND NOT granted"
WAITS = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event ="
PLANNING = f"{WAITS} 'PgSleep'"  # slowly: nothing is committed
ROW_AWAITED = f"{WAITS} 'transactionid'"
TROUBLE = {"accept_then_drop": 0.15, "accept_then_500": 0.15, "garbage": 0.25, "error_500": 0.1}


async def calm(stage: Stage) -> None:
    """Send by a filter, beside an opted-out client, through a gateway that accepts everything a little slowly."""
    vips = await stage.campaign.clients(12, tag="vip")
    await stage.campaign.clients(3, tag="other")
    await stage.campaign.api.patch(f"/clients/{vips[0]}/", json={"opted_out": True})
    await stage.gateway.change({"latency_s": 0.2})
    await _send(stage, filter={"tags": ["vip"], "operator_codes": []})


async def trouble(stage: Stage) -> None:
    """Let the gateway drop, fail and send garbage, before and after accepting.

    The trouble ends, or an open breaker's probe would fail again and again.
    """
    await stage.campaign.clients(40)
    await stage.gateway.change({"mix": TROUBLE})
    async with stage.working():
        await stage.campaign.mailing()
        await stage.called(MIN_CALLS)
        await stage.gateway.change({"mix": {}})
        await stage.settle()


async def reported(stage: Stage) -> None:
    """Let receipts come early, late, twice, in the wrong order and forged, through a gateway that gives trouble."""
    async with stage.sending_receipts():
        await trouble(stage)


async def slow(stage: Stage) -> None:
    """Every call lasts longer than a busy gateway may be late with its notes."""
    await stage.campaign.clients(4)
    await stage.gateway.change({"latency_s": 2.0})
    await _send(stage)


async def abroad(stage: Stage) -> None:
    """Open the window in UTC alone; in the clients' zone it opens after the mailing's end."""
    await stage.campaign.clients(5, timezone="Etc/GMT-6")
    await stage.campaign.clients(5, timezone="UTC")
    await _send(stage, local_window=_hours_around(datetime.now(UTC)))


async def scheduled(stage: Stage) -> None:
    """Schedule a start that is still to come when the worker is ready."""
    await stage.campaign.clients(5)
    await _send(stage, starts_in_s=4)


async def withdrawn(stage: Stage) -> None:
    """Cancel a mailing after messages were accepted and before any answer came."""
    await stage.campaign.clients(5)
    await stage.gateway.change({"mix": {"accept_then_drop": 1.0}})
    async with stage.working(retry_base_s=600.0, retry_max_s=600.0):
        mailing = await stage.campaign.mailing()
        await _attempted(stage, 5)
        await stage.act(CANCEL, Subject("mailing", mailing))
        await stage.settle()


async def reworded(stage: Stage) -> None:
    """Change the text and a phone between two attempts of messages that may have arrived.

    Nobody works meanwhile: what was claimed before the change and is called after it goes out as it was, by right.
    """
    client, *_ = await stage.campaign.clients(4)
    await stage.gateway.change({"mix": {"accept_then_drop": 1.0}})
    async with stage.working():
        mailing = await stage.campaign.mailing(text="before")
        await _attempted(stage, 4)
    await stage.act(edit(text="after"), Subject("mailing", mailing))
    await stage.act(edit(phone="79169999999"), Subject("client", client))
    await stage.gateway.change({"mix": {}})
    called = stage.gateway.ledger.calls_of.total()
    async with stage.working():
        await stage.called(called + 4)
        await stage.settle()


async def lost(stage: Stage) -> None:
    """Leases run out while the gateway, which has accepted, keeps its answers back, and a second worker calls again."""
    await stage.campaign.clients(4)
    await stage.gateway.change({"mode": "hold"})
    async with stage.working(gateway_timeout_s=40.0), stage.working(gateway_timeout_s=40.0):
        await stage.campaign.mailing()
        await stage.called(4)
        await stage.lose_leases()
        await stage.gateway.change({"mode": "normal"})
        await stage.settle()


async def overtaken(stage: Stage) -> None:
    """Let a lease run out and a second worker call before the first call is refused."""
    await stage.campaign.clients(1)
    await stage.gateway.change({"mode": "hold", "script": ["refuse_400", "accept"]})
    async with stage.working(gateway_timeout_s=40.0), stage.working(gateway_timeout_s=40.0):
        await stage.campaign.mailing()
        await stage.called()
        await stage.lose_leases()
        stage.gateway.release_oldest()
        await _attempted(stage, 1, outcome="refused")
        await stage.gateway.change({"mode": "normal"})
        await stage.settle()


async def paused(stage: Stage) -> None:
    await _with_calls_waiting(
        stage,
        lambda mailing: stage.act(PAUSE, Subject("mailing", mailing)),
        lambda mailing: stage.act(RESUME, Subject("mailing", mailing)),
    )


async def stopped(stage: Stage) -> None:
    await _with_calls_waiting(
        stage, lambda _mailing: stage.stop_everything(), lambda _mailing: stage.start_everything()
    )


async def deleted(stage: Stage) -> None:
    await _with_calls_waiting(stage, lambda mailing: stage.act(DELETE, Subject("mailing", mailing)))


async def cut_short(stage: Stage) -> None:
    """Its end is moved to a second from then."""
    await _with_calls_waiting(
        stage, lambda mailing: stage.act(edit(ends_at=from_now(seconds=1)), Subject("mailing", mailing))
    )


async def other_hours(stage: Stage) -> None:
    window = _hours_around(datetime.now(UTC) + timedelta(hours=6))
    await _with_calls_waiting(stage, lambda mailing: stage.act(edit(local_window=window), Subject("mailing", mailing)))


async def left(stage: Stage) -> None:
    """Those whose messages are claimed and not yet called opt out."""

    async def opt_out(_mailing: int) -> None:
        called = [call.id for call in _calls(stage)]
        waiting = "SELECT client_id FROM message WHERE status = 'sending' AND NOT id = ANY(:called)"
        for (client,) in await stage.campaign.db.run(waiting, called=called):
            await stage.act(OPT_OUT, Subject("client", client))

    await _with_calls_waiting(stage, opt_out)


async def gone_while_planned(stage: Stage) -> None:
    """One opts out and one is deleted while the plan writes their messages, before anybody can see these."""
    clients = await stage.campaign.clients(6)

    async def leave() -> None:
        await stage.act(OPT_OUT, Subject("client", clients[0]))
        await stage.act(DELETE, Subject("client", clients[1]))

    await _while_planned(stage, leave)


async def moved_while_planned(stage: Stage) -> None:
    """From where the mailing's window is open to where it has closed for good, while the plan writes their messages."""
    clients = await stage.campaign.clients(4)
    await stage.campaign.clients(1, timezone="Etc/GMT-6")

    async def move() -> None:
        for client in clients[:2]:
            await stage.act(edit(timezone="Etc/GMT-6"), Subject("client", client))

    await _while_planned(stage, move, local_window=_hours_around(datetime.now(UTC)))


async def moved_before_planned(stage: Stage) -> None:
    """To a zone where nobody was when the plan asked for its zones, before it writes the first message."""
    clients = await stage.campaign.clients(4)
    async with stage.working():
        async with stage.changing_clients():
            await stage.campaign.mailing(local_window=_hours_around(datetime.now(UTC)))
            await stage.campaign.until_found(PLAN_WAITS)
            await stage.act(edit(timezone="Etc/GMT-6"), Subject("client", clients[0]))
        await stage.called()
        await stage.settle()


async def moved_on(stage: Stage) -> None:
    """Its end is moved on, and planned anew, while calls are under way that fail: there is time for the next try."""
    await stage.campaign.clients(3)
    await stage.gateway.change({"mode": "hold", "script": ["throttle_429"], "retry_after": "9"})
    async with stage.working():
        mailing = await stage.campaign.mailing(lasts_s=8)
        await stage.called(3)
        await stage.act(edit(ends_at=from_now(hours=1)), Subject("mailing", mailing))
        await stage.campaign.until_found(PLANNED)
        await stage.gateway.change({"mode": "normal"})
        await stage.settle()


async def row_locked(stage: Stage) -> None:
    """Somebody holds the row whose result comes first, and for longer than a lease."""
    async with _all_called(stage) as [first, *_], stage.locked_row(first):
        stage.gateway.release_oldest()
        if stage.is_faulty:
            await stage.campaign.until_found(ROW_AWAITED)  # by a recorder that holds no other row
        await _leases_run_out(stage)


async def row_refused(stage: Stage) -> None:
    """One row refuses its result among those of all, and for longer than a lease."""
    async with _all_called(stage) as [_, _, third, *_]:
        async with stage.refusing_row(third):
            await _leases_run_out(stage)
        if not stage.is_faulty:
            # Parked as unknown by the third refusal, it is recorded later.
            await stage.campaign.until_found(SENT, least=6)


async def _send(stage: Stage, **mailing: Any) -> None:  # noqa: ANN401 - fields of a mailing
    """From its beginning until nothing moves any more."""
    async with stage.working():
        await stage.campaign.mailing(**mailing)
        await stage.called()
        await stage.settle()


@asynccontextmanager
async def _all_called(stage: Stage) -> AsyncIterator[list[int]]:
    """One of two workers has called all: their answers are held back until the block changes that."""
    await stage.campaign.clients(6)
    await stage.gateway.change({"mode": "hold"})
    async with stage.working(gateway_timeout_s=40.0), stage.working(gateway_timeout_s=40.0):
        await stage.campaign.mailing()
        await stage.called(6)
        yield [call.id for call in _calls(stage)]
        await stage.settle()


async def _leases_run_out(stage: Stage) -> None:
    """Longer after the answers than a worker takes to record them."""
    await stage.gateway.change({"mode": "normal"})
    if not stage.is_faulty:
        await stage.campaign.until_found(SENT, least=5)
    await stage.run_leases_out()


async def _while_planned(
    stage: Stage,
    change: Callable[[], Awaitable[None]],
    **fields: Any,  # noqa: ANN401 - of a mailing
) -> None:
    """Make the plan's statement take two seconds, and begin `change` in the first."""
    await stage.define(SLOW, "CREATE TRIGGER slow AFTER INSERT ON message FOR EACH STATEMENT EXECUTE FUNCTION slow()")
    async with stage.working():
        await stage.campaign.mailing(**fields)
        await stage.campaign.until_found(PLANNING)
        await change()
        await stage.define("DROP TRIGGER slow ON message")
        await stage.called()
        await stage.settle()


async def _with_calls_waiting(
    stage: Stage,
    change: Callable[[int], Awaitable[None]],
    change_back: Callable[[int], Awaitable[None]] | None = None,
) -> None:
    """Something changes while every connection waiting for the gateway, and claimed messages wait for a connection."""
    await stage.campaign.clients(8)
    await stage.gateway.change({"mode": "hold"})
    async with stage.working(gateway_concurrency=2):
        mailing = await stage.campaign.mailing()
        await stage.called(2)  # which are held
        await stage.campaign.until_found(CLAIMED, least=3)
        await change(mailing)
        await stage.let_it_spread()
        await stage.gateway.change({"mode": "normal", "latency_s": 0.1})
        if change_back:
            await asyncio.sleep(0.5)  # for calls that should not begin
            await change_back(mailing)
        await stage.settle()


def _hours_around(moment: datetime) -> dict[str, str]:
    hour = timedelta(hours=1)
    return {"start": f"{moment - hour:%H:%M}", "end": f"{moment + hour:%H:%M}"}


def _calls(stage: Stage) -> list[Call]:
    return calls_in(stage.ledger)


async def _attempted(stage: Stage, least: int, *, outcome: str = "ambiguous") -> None:
    await stage.campaign.until_found(ATTEMPTED, least=least, outcome=outcome)
