import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from mailing.sending import claim_budget
from mailing.sending.call_slots import CallSlots
from mailing.sending.claim_budget import MAX_CLAIMED, MIN_CLAIM, ClaimBudget


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(claim_budget, "time", clock)
    return clock


async def finish(budget: ClaimBudget, count: int, *, mailing: int = 1) -> None:
    for _ in range(count):
        budget.complete(mailing)
    await asyncio.sleep(0)


async def claim(budget: ClaimBudget, mailing: int, *, found: int) -> None:
    budget.end_claim(mailing, acquired=await budget.acquire(mailing, 500), claimed=found)


async def at_a_thousand_a_second(budget: ClaimBudget, clock: Clock) -> None:
    for _ in range(125):
        assert await budget.acquire(1, 8) == 8
        await finish(budget, 8)
    clock.now += 1
    assert await budget.acquire(1, 8) == 8
    await finish(budget, 8)


async def test_at_first_it_holds_twice_the_connections() -> None:
    assert await ClaimBudget(4).acquire(1, 500) == 8


async def test_it_holds_half_a_second_of_the_pace_and_never_more_than_its_most(clock: Clock) -> None:
    budget = ClaimBudget(4)
    await at_a_thousand_a_second(budget, clock)
    assert 490 <= await budget.acquire(1, MAX_CLAIMED) <= 510


async def test_whoever_waits_at_a_high_pace_goes_on_after_the_pace_has_dropped(clock: Clock) -> None:
    """A gateway that fell silent: the room asked for at the old pace would never be free again."""
    budget = ClaimBudget(4)
    await at_a_thousand_a_second(budget, clock)
    held = await budget.acquire(1, 500)
    waiting = asyncio.create_task(budget.acquire(1, 500))
    await asyncio.sleep(0)
    clock.now += 100
    await finish(budget, held)
    assert await asyncio.wait_for(waiting, 5) == 8


async def test_what_was_not_used_is_given_back_at_once() -> None:
    budget = ClaimBudget(4)
    await claim(budget, 1, found=0)
    assert await asyncio.wait_for(budget.acquire(1, 500), 5) == 8


async def test_many_that_begin_at_once_begin_with_one_message_each() -> None:
    """The first alone can't know that others come."""
    budget = ClaimBudget(64)
    await budget.acquire(1, 500)
    asked = [asyncio.create_task(budget.acquire(mailing, 500)) for mailing in range(2, 40)]
    await asyncio.sleep(0)
    await finish(budget, 64)
    assert [await asyncio.wait_for(each, 5) for each in asked] == [1] * 38


async def test_whoever_has_just_begun_claims_before_those_that_had_a_turn(clock: Clock) -> None:
    """All others that wait had one a second ago. A claim that found nothing was none: the plan may have come later."""
    budget, order = ClaimBudget(8), list[int]()

    async def take(mailing: int) -> None:
        await budget.acquire(mailing, 500)
        order.append(mailing)

    for mailing in (1, 2, 3):
        await claim(budget, mailing, found=1)
        await finish(budget, 1, mailing=mailing)
    await claim(budget, 98, found=0)
    held = await budget.acquire(4, 500)
    clock.now += 1
    async with asyncio.timeout(5), asyncio.TaskGroup() as waiting:
        for mailing in (2, 1, 98, 3, 99):
            waiting.create_task(take(mailing))
        await asyncio.sleep(0)
        await finish(budget, held, mailing=4)
    assert order == [98, 99, 2, 1, 3]


async def test_a_part_is_worth_its_statements() -> None:
    budget = ClaimBudget(64)
    for mailing in range(1, 31):
        await claim(budget, mailing, found=1)
    assert await budget.acquire(1, 500) == MIN_CLAIM


async def test_a_waiting_mailing_that_is_cancelled_leaves_its_room_to_others() -> None:
    budget = ClaimBudget(4)
    assert await budget.acquire(1, 500) == 8
    waiting = asyncio.create_task(budget.acquire(2, 500))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await finish(budget, 8)
    assert await asyncio.wait_for(budget.acquire(1, 500), 5) == 8


@asynccontextmanager
async def hold(slots: CallSlots, mailing_id: int) -> AsyncIterator[None]:
    await slots.acquire(mailing_id)
    try:
        yield
    finally:
        slots.release(mailing_id)


async def test_a_mailing_without_a_call_under_way_is_called_first_and_then_whose_turn_it_is() -> None:
    slots, called = CallSlots(1), list[int]()

    async def call(mailing: int) -> None:
        async with hold(slots, mailing):
            called.append(mailing)
            await asyncio.sleep(0)

    async with asyncio.timeout(5), asyncio.TaskGroup() as calls, hold(slots, 1):
        for mailing in (1, 1, 2, 3, 2):
            calls.create_task(call(mailing))
        await asyncio.sleep(0)
    assert sorted(called) == [1, 1, 2, 2, 3]
    assert called == [1, 1, 2, 3, 2], "nobody has a call under way while the only slot changes hands"
    async with asyncio.timeout(5), asyncio.TaskGroup() as calls:
        called.clear()
        slots = CallSlots(2)
        async with hold(slots, 1):
            async with hold(slots, 1):
                for mailing in (1, 1, 2):
                    calls.create_task(call(mailing))
                await asyncio.sleep(0)
            assert not called
            await asyncio.sleep(0)
            assert called == [2], "the other call of mailing 1 is under way"


async def test_a_caller_that_is_cancelled_keeps_no_slot() -> None:
    slots = CallSlots(1)

    async def call() -> None:
        async with hold(slots, 2):
            pass

    async with hold(slots, 1):
        waiting = [asyncio.create_task(call()) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        await asyncio.sleep(0)
    waiting[1].cancel()
    await asyncio.wait_for(waiting[2], 5)
    await asyncio.gather(*waiting, return_exceptions=True)
    async with asyncio.timeout(5), hold(slots, 3):
        pass
