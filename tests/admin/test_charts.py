"""What the live pages are made of: shared readings and the geometry of charts."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailing.admin.charts import HEIGHT, MIN_SIZE, WIDTH, columns, round_up, segments
from mailing.admin.single_flight import SingleFlight


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


@given(st.lists(st.integers(0, 10**9), max_size=100))
def test_columns_stay_in_their_place_and_show_what_is_not_nothing(values: list[int]) -> None:
    chart = columns(values)
    assert [column.value for column in chart.columns] == values
    assert chart.top >= max(values, default=0)
    for column in chart.columns:
        assert 0 <= column.x <= column.x + column.width <= WIDTH + 0.01
        assert (column.height > 0) == (column.value > 0)
        assert column.y + column.height == pytest.approx(HEIGHT, abs=0.02)


@given(st.dictionaries(st.sampled_from("abcdefg"), st.integers(0, 10**9)))
def test_a_bar_is_full_and_shows_every_part(values: dict[str, int]) -> None:
    parts = segments(values)
    assert {part.name: part.value for part in parts} == {name: value for name, value in values.items() if value}
    assert sum(part.width for part in parts) == pytest.approx(WIDTH if parts else 0, abs=0.1)
    assert all(part.width >= MIN_SIZE / 2 for part in parts)


@pytest.mark.parametrize(("most", "top"), [(0, 2), (2, 2), (3, 4), (9, 10), (21, 40), (530, 600), (1001, 2000)])
def test_the_top_of_a_chart_is_a_round_number(most: int, top: int) -> None:
    assert round_up(most) == top
