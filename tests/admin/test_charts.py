import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailing.admin.charts import HEIGHT, MIN_SIZE, WIDTH, columns, round_up, segments


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
