import asyncio

import pytest

from mailing.web.single_flight import SingleFlight


async def test_a_hundred_who_ask_at_once_cost_one_reading() -> None:
    readings = 0

    async def read() -> int:
        nonlocal readings
        readings += 1
        await asyncio.sleep(0)
        return readings

    shared = SingleFlight()
    assert set(await asyncio.gather(*(shared.read("mailing 1", read, cache_s=60) for _ in range(100)))) == {1}
    assert await shared.read("mailing 1", read, cache_s=60) == 1
    assert await shared.read("mailing 2", read, cache_s=60) == 2


async def test_a_reading_is_kept_for_its_time_only() -> None:
    numbers = iter(range(10))

    async def read() -> int:
        return next(numbers)

    shared = SingleFlight()
    assert [await shared.read("key", read, cache_s=0) for _ in range(3)] == [0, 1, 2]


async def test_a_reading_that_is_not_kept_is_shared_while_it_goes_on() -> None:
    numbers = iter(range(10))

    async def read() -> int:
        await asyncio.sleep(0)
        return next(numbers)

    shared = SingleFlight()
    assert await asyncio.gather(*(shared.read("key", read, cache_s=0) for _ in range(3))) == [0, 0, 0]
    assert await shared.read("key", read, cache_s=0) == 1


async def test_a_failed_reading_is_tried_again_by_the_next_who_asks() -> None:
    answers = iter([OSError("away"), None])

    async def read() -> str:
        if error := next(answers):
            raise error
        return "back"

    shared = SingleFlight()
    with pytest.raises(OSError, match="away"):
        await shared.read("key", read, cache_s=60)
    assert await shared.read("key", read, cache_s=60) == "back"


async def test_who_gives_up_does_not_take_the_others_reading_away() -> None:
    goes_on = asyncio.Event()

    async def read() -> str:
        await goes_on.wait()
        return "read"

    shared = SingleFlight()
    first, second = (asyncio.create_task(shared.read("key", read, cache_s=60)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    goes_on.set()
    assert await second == "read"
