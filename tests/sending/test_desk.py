import asyncio

import pytest

from mailing.sending import desk
from mailing.sending.desk import MOST_HELD, Capacity


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(desk, "time", clock)
    return clock


async def finish(capacity: Capacity, count: int) -> None:
    for _ in range(count):
        capacity.done(1)
    await asyncio.sleep(0)


async def at_a_thousand_a_second(capacity: Capacity, clock: Clock) -> None:
    for _ in range(125):
        assert await capacity.take(1, 8) == 8
        await finish(capacity, 8)
    clock.now += 1
    assert await capacity.take(1, 8) == 8
    await finish(capacity, 8)


async def test_at_first_it_holds_twice_the_connections(clock: Clock) -> None:
    assert await Capacity(4).take(1, 500) == 8
    assert clock.now == 0


async def test_it_holds_half_a_second_of_the_pace_and_never_more_than_its_most(clock: Clock) -> None:
    capacity = Capacity(4)
    await at_a_thousand_a_second(capacity, clock)
    assert 490 <= await capacity.take(1, MOST_HELD) <= 510


async def test_whoever_waits_at_a_high_pace_goes_on_after_the_pace_has_dropped(clock: Clock) -> None:
    """A gateway that fell silent: the room asked for at the old pace would never be free again."""
    capacity = Capacity(4)
    await at_a_thousand_a_second(capacity, clock)
    held = await capacity.take(1, 500)
    waiting = asyncio.create_task(capacity.take(1, 500))
    await asyncio.sleep(0)
    clock.now += 100
    await finish(capacity, held)
    assert await asyncio.wait_for(waiting, 5) == 8


async def test_what_was_not_used_is_given_back_at_once(clock: Clock) -> None:
    capacity = Capacity(4)
    assert await capacity.take(1, 500) == 8
    capacity.give_back(1, 8)
    assert await asyncio.wait_for(capacity.take(1, 500), 5) == 8
    assert clock.now == 0
