"""Small runs, each about one thing that can go wrong. Each ends when all is quiet, or when patience is over."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from chaos.facts import GRACE_S, Kind
from chaos.stage import NOTICED_S, Stage
from mailing.mailings.repository import MailingRepository
from mailing.messages.repository import Result, record
from mailing.sending.next_step import Moment, not_called
from mailing.sending.plan import plan_mailing
from mailing.sending.schedule import opening

FORBIDDEN_AFTER_S: Final = GRACE_S + NOTICED_S + 0.3


async def calm(stage: Stage) -> None:
    async with stage.working():
        await stage.mailing(30)
        await stage.quiet()


async def faulty_gateway(stage: Stage) -> None:
    """Fewer calls than make the breaker open."""
    await stage.behave(mix={"garbage": 0.2, "error_400": 0.2, "accept_then_500": 0.2})
    async with stage.working():
        await stage.mailing(12)
        await stage.quiet()


async def slow_gateway(stage: Stage) -> None:
    """With more connections than messages."""
    await stage.behave(latency_s=2.0)
    async with stage.working(gateway_concurrency=40):
        await stage.mailing(12)
        await stage.quiet()


async def scheduled_start(stage: Stage) -> None:
    async with stage.working():
        await stage.mailing(5, starts_in_s=4)
        await stage.quiet()


async def end_during_a_call(stage: Stage) -> None:
    """One connection, and a call that lasts until past the end: what is claimed behind it must not follow."""
    await stage.behave(latency_s=4.7)
    async with stage.working(gateway_concurrency=1, gateway_timeout_s=20.0):
        await stage.mailing(6, lasts_s=4)
        await stage.quiet()


async def closed_window(stage: Stage) -> None:
    """Open in UTC now, and not for hours where the clients live."""
    now = datetime.now(UTC)
    hours = {"start": f"{now - timedelta(minutes=1):%H:%M}", "end": f"{now + timedelta(hours=2):%H:%M}"}
    async with stage.working():
        await stage.mailing(5, timezone="Etc/GMT-6", local_window=hours)
        await stage.quiet()


async def pause_during_a_call(stage: Stage) -> None:
    await stage.behave(latency_s=4.0)
    async with stage.working(gateway_concurrency=1):
        mailing = await stage.mailing(4)
        await stage.called(1)
        await stage.control(Kind.paused, mailing)
        await stage.nothing_under_way()
        await stage.behave()
        await stage.control(Kind.resumed, mailing)
        await stage.quiet()


async def opt_out_while_waiting(stage: Stage) -> None:
    mailing = await stage.mailing(4)
    await plan_mailing(stage.sessions, mailing)
    await stage.opt_out(stage.clients[0].id)
    await asyncio.sleep(FORBIDDEN_AFTER_S)
    async with stage.working():
        await stage.quiet()


async def edit_after_an_ambiguous_call(stage: Stage) -> None:
    await stage.behave(mode="accept_then_500")
    async with stage.working(retry_base_s=1.0, retry_max_s=1.0):
        mailing = await stage.mailing(4)
        await stage.called(1)
        await stage.nothing_under_way()
        await stage.edit(mailing, text="other words")
        await stage.behave()
        await stage.quiet()


async def edit_closes_the_window(stage: Stage) -> None:
    """What was claimed before the edit must not follow once the call under way is over."""
    await stage.behave(latency_s=4.0)
    later = datetime.now(UTC) + timedelta(hours=2)
    async with stage.working(gateway_concurrency=1):
        mailing = await stage.mailing(4)
        await stage.called(1)
        await stage.edit(
            mailing, local_window={"start": f"{later:%H:%M}", "end": f"{later + timedelta(hours=1):%H:%M}"}
        )
        await stage.quiet()


async def worker_dies_during_calls(stage: Stage) -> None:
    mailing = await stage.mailing(8)
    await stage.dying_worker(mailing, 5)
    async with stage.working():
        await stage.quiet()


async def lost_worker_comes_back(stage: Stage) -> None:
    """It reports what it had claimed while another worker is calling."""
    mailing_id = await stage.mailing(1)
    claimed = await stage.dying_worker(mailing_id, 1, calls=False)
    await stage.behave(latency_s=1.5)
    async with stage.working():
        await stage.called(1)
        async with stage.sessions() as session, session.begin():
            mailing = await MailingRepository(session=session).get(mailing_id)
            moment = Moment(
                datetime.now(UTC),
                0.0,
                lambda not_before: opening("UTC", None, not_before=not_before, before=mailing.ends_at),
            )
            late = [Result(message=message, step=not_called(message, moment)) for message in claimed]
            await record(session, late, revision=mailing.revision)
        await stage.quiet()


Scenario = Callable[[Stage], Awaitable[None]]
SCENARIOS: Final[list[Scenario]] = [
    calm,
    faulty_gateway,
    slow_gateway,
    scheduled_start,
    end_during_a_call,
    closed_window,
    pause_during_a_call,
    opt_out_while_waiting,
    edit_after_an_ambiguous_call,
    edit_closes_the_window,
    worker_dies_during_calls,
    lost_worker_comes_back,
]
