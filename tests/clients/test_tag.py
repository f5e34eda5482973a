import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailing.clients.rows import Reading
from mailing.clients.tag import is_tag, neutralised, restored

TAGS = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=100).filter(is_tag)
SIGNS = "=+-@＝＋－＠"  # noqa: RUF001 - full-width on purpose
FORMULAS = st.builds(lambda sign, rest: (sign + rest)[:100], st.sampled_from(SIGNS + "'"), TAGS).filter(is_tag)


@pytest.mark.parametrize("tag", ["vip", "новый клиент", "a,b", 'a"b', "a\\b", "é́", "\u202evip", "👩‍👩‍👧", "x" * 100])
def test_a_tag_may_be_any_text_that_can_be_seen(tag: str) -> None:
    assert is_tag(tag)


@pytest.mark.parametrize(
    "tag", ["", " ", " vip", "vip ", "vip\u00a0", "a\nb", "a\tb", "a\x00", "a\x7f", "a\x85", "\ud800", "x" * 101]
)
def test_a_tag_holds_nothing_that_can_not_be_seen_or_typed(tag: str) -> None:
    assert not is_tag(tag)


@given(TAGS | FORMULAS)
def test_a_neutralised_tag_comes_back_as_it_was(tag: str) -> None:
    assert restored(neutralised(tag)) == tag


@given(FORMULAS)
def test_no_neutralised_tag_begins_like_a_formula(tag: str) -> None:
    assert neutralised(tag)[0] not in SIGNS


@given(st.lists(TAGS | FORMULAS, min_size=1, max_size=20))
def test_tags_survive_a_csv_file(tags: list[str]) -> None:
    file = io.StringIO()
    csv.writer(file).writerows(
        [("phone", "tag", "timezone"), *(("79161234567", neutralised(tag), "UTC") for tag in tags)]
    )
    reading = Reading()
    rows = reading.feed(file.getvalue().encode()) + reading.finish()
    assert [row[3] for row in rows] == tags
    assert reading.errors == []
