"""What a worker does where a claim finds nothing, or fails, and a send job whose mailing is woken while it ends."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
from sqlalchemy.exc import DBAPIError

from mailing.gateway.flow_control import Blocked
from mailing.sending import send
from mailing.sending.claiming import Claimer, running_mailing
from mailing.sending.revalidation import Revalidator
from mailing.sending.send import send_mailing
from support.database import LOCK_WAITS, Database
from support.jobs import jobs
from support.sending import send_context

IN_A_MOMENT = "UPDATE gateway SET paused_until = clock_timestamp() + interval '0.2 s'"
LATER = "UPDATE gateway SET paused_until = clock_timestamp() + interval '1 min'"
STOP = "UPDATE gateway SET stopped_at = now(), stopped_by = 'tests'"
OPEN_BREAKER = """
    UPDATE gateway SET breaker_reason_code = 'connection_refused', breaker_opened_at = now() - interval '1 h',
        breaker_next_probe_at = now()"""
PROBE_IS_DUE = "SELECT breaker_next_probe_at <= now() FROM gateway"


async def claimer_of(db: Database, mailing_id: int) -> Claimer:
    mailing = await db.commit(running_mailing, mailing_id)
    assert mailing
    return Claimer(await send_context(db), mailing, {1: "Hello"}, 0)


async def test_a_pause_that_was_asked_of_another_worker_a_moment_ago_is_waited_for(db: Database) -> None:
    """The claim sees it before this worker has read it; the mailing would have waited for the next sweep."""
    mailing_id, (message_id,) = await db.add_audience(["pending"])
    claimer = await claimer_of(db, mailing_id)
    await db.run(IN_A_MOMENT)
    batch = await claimer.claim(500)
    assert batch
    assert [message.id for message in batch.messages] == [message_id]


@pytest.mark.parametrize("closed_by", [LATER, STOP, OPEN_BREAKER + " + interval '1 min'"])
async def test_what_forbids_a_claim_is_known_after_it_though_this_worker_had_not_read_it(
    db: Database, closed_by: str
) -> None:
    mailing_id, _ = await db.add_audience(["pending"])
    claimer = await claimer_of(db, mailing_id)
    await db.run(closed_by)
    assert await claimer.claim(500) is None
    until = await db.value("SELECT coalesce(breaker_next_probe_at, nullif(paused_until, '-infinity')) FROM gateway")
    assert claimer.blocked == Blocked(until)


@pytest.mark.parametrize("poisoned", [False, True])
async def test_a_probe_whose_claim_fails_is_due_again_for_the_next_message(db: Database, *, poisoned: bool) -> None:
    """A claim of one message has found the one at fault, so that the breaker can be closed by another."""
    mailing_id, messages = await db.add_audience(["pending", "pending"])
    await db.run(OPEN_BREAKER)
    claimer = await claimer_of(db, mailing_id)
    fault = f"NEW.id = {messages[0]}" if poisoned else "true"
    code = "check_violation" if poisoned else "serialization_failure"
    await db.after_write(
        "message", f"IF NEW.status = 'sending' AND {fault} THEN RAISE USING ERRCODE = '{code}'; END IF"
    )
    with pytest.raises(DBAPIError) as failed:
        await claimer.claim(500)
    assert await db.value(PROBE_IS_DUE)
    if poisoned:
        await claimer.shrink(failed.value)
        batch = await claimer.claim(500)
        assert batch
        assert [(message.id, message.probe) for message in batch.messages] == [(messages[1], True)]


async def test_a_row_that_no_claim_can_take_is_the_one_postponed_while_another_worker_tries_it(db: Database) -> None:
    """The next one is innocent: it would be sent five minutes later."""
    mailing_id, messages = await db.add_audience(["pending", "pending"])
    claimer = await claimer_of(db, mailing_id)
    fault = f"NEW.status = 'sending' AND NEW.id = {messages[0]}"
    await db.after_write("message", f"IF {fault} THEN RAISE USING ERRCODE = 'check_violation'; END IF")
    with pytest.raises(DBAPIError) as failed:
        await claimer.claim(1)
    async with db.holding(f"SELECT FROM message WHERE id = {messages[0]} FOR UPDATE"):
        postponing = asyncio.create_task(claimer.shrink(failed.value))
        await db.comes(LOCK_WAITS, 1)
    await postponing
    assert await db.run("SELECT id FROM message WHERE reason_code = 'not_claimable'") == [(messages[0],)]


async def test_a_probe_that_is_not_called_is_due_again(db: Database) -> None:
    """Its process was too slow, or its message was withdrawn: a later one would be up to a minute away."""
    mailing_id, _ = await db.add_audience(["pending"])
    await db.run(OPEN_BREAKER)
    context = await send_context(db)
    revalidator = Revalidator(context)
    context.on_claimed = lambda _: context.stopping.set()
    await send_mailing(context, revalidator, mailing_id, 0)
    assert await db.value("SELECT status FROM message") == "pending"
    assert await db.value(PROBE_IS_DUE)


@pytest.mark.parametrize("interrupted", ["the claim", "the start"])
async def test_a_mailing_that_is_woken_while_its_job_ends_is_sent_on_at_once(
    db: Database, monkeypatch: pytest.MonkeyPatch, interrupted: str
) -> None:
    """The first job read that sending was stopped or the mailing paused; that changes before the second job arrives."""
    mailing_id, _ = await db.add_audience(["pending"])
    await db.run(STOP)
    context = await send_context(db)
    revalidator = Revalidator(context)

    async def woken_after(work: Callable[..., Awaitable[Any]], *given: object) -> object:
        done = await work(*given)
        await send_mailing(context, revalidator, mailing_id, 0)
        return done

    if interrupted == "the claim":
        monkeypatch.setattr(context.flow_control, "admit", partial(woken_after, context.flow_control.admit))
    else:
        await db.run("UPDATE mailing SET status = 'paused'")
        monkeypatch.setattr(send, "running_mailing", partial(woken_after, running_mailing))
    await send_mailing(context, revalidator, mailing_id, 0)
    assert [job[:3] for job in await jobs(db)] == [("send_mailing", {"lane": 0, "mailing_id": mailing_id}, None)]
