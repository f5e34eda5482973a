"""Leases that ran out are found, however often a process has looked before, and each is forgotten once it is over."""

import pytest

from mailing.messages.leases import RetryPolicy
from mailing.sending.sweep import sweep
from support.database import Database

POLICY = RetryPolicy(hold=False, base_s=5, max_s=600)
LOSE = "UPDATE message SET lease_until = now() - interval '1 s' WHERE id = :id"


@pytest.fixture
async def messages(db: Database) -> list[int]:
    """Two that are being sent."""
    return await db.add_messages(await db.add_mailing(), ["sending", "sending"])


async def test_a_lease_that_runs_out_later_is_found_by_the_next_look(db: Database, messages: list[int]) -> None:
    for message_id in messages:
        await db.run(LOSE, id=message_id)
        assert await sweep(db.sessions, POLICY) == 1
    assert await sweep(db.sessions, POLICY) == 0


async def test_a_lost_lease_that_somebody_holds_just_then_is_not_forgotten(db: Database, messages: list[int]) -> None:
    await db.run("UPDATE message SET lease_until = now() - interval '1 day' WHERE id = :id", id=messages[0])
    async with db.holding(f"SELECT FROM message WHERE id = {messages[0]} FOR UPDATE"):
        for _ in range(3):
            assert await sweep(db.sessions, POLICY) == 0
    assert await sweep(db.sessions, POLICY) == 1
