"""What a process that stood still, or that holds its claims for long, may still call."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import pytest
from msgspec import structs

from mailing.database.clock import DatabaseClock
from mailing.database.monotonic import ticks
from mailing.messages.claim import ClaimedMessage, claim
from mailing.messages.leases import MAX_LEASE_S, MIN_LEASE_S, lease_for
from mailing.sending.revalidation import Revalidator
from mailing.settings import MAX_GATEWAY_TIMEOUT_S
from support.database import Database
from support.sending import send_context


@dataclass
class Jumping:
    """The process's clock, which goes on while a suspended machine does not: by `by` seconds more each time."""

    by: float = 0.0

    def __call__(self) -> float:
        return ticks() + self.by


@dataclass(frozen=True)
class Held:
    revalidator: Revalidator
    message: ClaimedMessage
    clock: DatabaseClock
    jumping: Jumping

    @property
    def may_be_called(self) -> bool:
        return self.revalidator.time_left_s(self.message, self.clock) > 0


@pytest.fixture
async def held(db: Database) -> Held:
    """Claim a message that may be called."""
    return await hold(db, timeout_s=10)


async def hold(db: Database, *, timeout_s: float) -> Held:
    mailing, _ = await db.add_mailing_of(["pending"], first_client=await db.add_client())
    jumping = Jumping()
    context = await send_context(db, timeout_s=timeout_s, ticks=jumping)
    at = jumping()
    (message,) = await db.commit(claim, mailing, 1, lease_s=context.lease_s)
    revalidator = Revalidator(context)
    revalidator.track([message])
    return Held(revalidator, message, DatabaseClock(message.claimed_at, at, jumping), jumping)


async def test_after_a_machine_was_suspended_nothing_is_called_before_the_database_was_asked(held: Held) -> None:
    assert held.may_be_called
    held.jumping.by = 20
    assert not held.may_be_called
    await held.revalidator.recheck()
    assert held.may_be_called


@pytest.mark.parametrize(
    "meanwhile",
    [
        "UPDATE mailing SET ends_at = now()",
        "UPDATE mailing SET status = 'cancelled'",
        "UPDATE client SET opted_out = true",
    ],
    ids=["the end", "a cancel", "an opt-out"],
)
async def test_what_happened_while_a_machine_was_suspended_is_seen_before_a_call(
    held: Held, db: Database, meanwhile: str
) -> None:
    held.jumping.by = 20
    await db.run(meanwhile)
    await held.revalidator.recheck()
    assert not held.may_be_called


async def test_of_two_clients_the_one_who_opted_out_is_not_called(db: Database) -> None:
    first, second = await db.add_clients(2)
    mailing, _ = await db.add_mailing_of(["pending", "pending"], first_client=first)
    at = ticks()
    revalidator = Revalidator(await send_context(db, timeout_s=10, ticks=lambda: at))
    messages = await db.commit(claim, mailing, 2)
    revalidator.track(messages)
    await db.run("UPDATE client SET opted_out = true WHERE id = :id", id=second)
    await revalidator.recheck()
    clock = DatabaseClock(messages[0].claimed_at, at, lambda: at)
    assert [revalidator.time_left_s(message, clock) > 0 for message in messages] == [True, False]


async def test_the_end_is_compared_with_the_newest_reading_of_the_databases_clock(held: Held) -> None:
    """The reading of the claim is 20 s behind, as where the database's machine was suspended, or its clock was set."""
    await held.revalidator.recheck()
    read: datetime = held.clock.now()
    soon = Held(
        held.revalidator,
        structs.replace(held.message, closes_at=read + timedelta(seconds=10)),
        replace(held.clock, read=held.clock.read - timedelta(seconds=20)),
        held.jumping,
    )
    assert soon.revalidator.time_left_s(soon.message, soon.clock) < 11


@pytest.mark.parametrize("timeout_s", [0.1, 10, 30, 55, MAX_GATEWAY_TIMEOUT_S])
async def test_with_every_timeout_a_message_may_be_called_even_after_another_one_had_its_connection(
    db: Database, timeout_s: float
) -> None:
    held = await hold(db, timeout_s=timeout_s)
    assert held.may_be_called
    held.jumping.by = timeout_s
    await held.revalidator.recheck()
    assert held.may_be_called


def test_a_lease_holds_two_calls_and_is_never_shorter_than_a_minute_nor_longer_than_the_sweep_reckons() -> None:
    assert lease_for(10) == MIN_LEASE_S
    assert 2 * MAX_GATEWAY_TIMEOUT_S < lease_for(MAX_GATEWAY_TIMEOUT_S) == MAX_LEASE_S
