import pytest

from mailing.clients.tag import is_tag


@pytest.mark.parametrize("tag", ["vip", "новый клиент", "a,b", 'a"b', "a\\b", "é́", "\u202evip", "👩‍👩‍👧", "x" * 100])
def test_a_tag_may_be_any_text_that_can_be_seen(tag: str) -> None:
    assert is_tag(tag)


@pytest.mark.parametrize(
    "tag", ["", " ", " vip", "vip ", "vip\u00a0", "a\nb", "a\tb", "a\x00", "a\x7f", "a\x85", "\ud800", "x" * 101]
)
def test_a_tag_holds_nothing_that_can_not_be_seen_or_typed(tag: str) -> None:
    assert not is_tag(tag)
