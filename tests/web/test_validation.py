"""Bodies: plain examples, then random valid documents with random damage.

The oracle of the damage is the table BAD: whatever of it is put where, exactly that place is named.
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta, timezone
from enum import StrEnum
from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET, Meta, Struct, UnsetType

from mailing.clients.tag import VISIBLE, is_tag
from mailing.errors import FieldError, Invalid
from mailing.mailings.schemas import Filter, LocalWindowIn, MailingIn, MailingPatch
from mailing.web.validation import check, given_fields, parse
from support.mailing_requests import BAD, VALID, damaged


def refused(body: bytes, kind: type[Struct] = MailingIn) -> dict[str, str]:
    """Return the message for each refused field."""
    with pytest.raises(Invalid) as error:
        parse(body, kind)
    named = {found.field: found.message for found in error.value.errors}
    assert len(named) == len(error.value.errors), "a field is named once"
    return named


def refused_value(value: object, kind: type[Struct] = MailingIn) -> dict[str, str]:
    return refused(msgspec.json.encode(value), kind)


# --- examples -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{", b'{"text": "x"} {}', b"{'text': 'x'}", '{"text": "x"}'.encode("utf-16")),
        *(b'{"text": NaN}', b'{"text": Infinity}', b'{"text": 1e999}', b'{"text": ' + b"9" * 5_000 + b"}"),
        *(b'{"text": "a\x00"}', b'{"text": "\\ud800"}', b'{"text": "\\ud800\\u0041"}'),
        *(b'{"text": "\xed\xa0\x80"}', b'{"text": "\xff"}'),
    ],
)
def test_what_is_no_json_is_an_error_of_the_body(body: bytes) -> None:
    assert refused(body)["body"].startswith("is not valid JSON: ")


def test_json_in_another_encoding_is_refused_with_the_one_to_use() -> None:
    assert refused('{"text": "Привет"}'.encode("cp1251")) == {"body": "is not valid JSON: it must be encoded in UTF-8"}


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"a":' * 100_000, b'{"text":' + b"[" * 5_000 + b"]" * 5_000 + b"}"])
def test_deep_json_is_refused_without_recursion(body: bytes) -> None:
    assert refused(body) == {"body": "is nested too deeply"}


@pytest.mark.parametrize("body", [b"null", b"[]", b"5", b'"text"', b"true"])
def test_a_body_that_is_no_object_is_refused(body: bytes) -> None:
    assert refused(body) == {"body": "must be a JSON object"}


def test_every_bad_field_is_named_at_once_with_what_it_must_be() -> None:
    body = {
        "starts_at": "2030-01-01T09:00:00",
        "ends_at": 5,
        "filter": {"tags": ["vip", "", 7, "x" * 101], "operator_codes": ["91", "916", "916\n"], "operators": []},
        "local_window": {"start": "24:00"},
        "colour": "red",
    }
    instant = "must be an instant in RFC 3339 with its offset, such as "
    assert refused_value(body) == {
        "colour": "is not a field here; known are text, starts_at, ends_at, filter, local_window",
        "text": "is required",
        "starts_at": instant + "2026-12-01T09:00:00Z",
        "ends_at": instant + "2030-12-01T18:00:00Z",
        "filter.operators": "is not a field here; known are tags, operator_codes",
        "filter.tags.1": "must be 1 to 100 visible characters",
        "filter.tags.2": "must be 1 to 100 visible characters",
        "filter.tags.3": "must be 1 to 100 visible characters",
        "filter.operator_codes.0": "must be three digits, such as 916",
        "filter.operator_codes.2": "must be three digits, such as 916",
        "local_window.start": "must be a time of day such as 09:00",
        "local_window.end": "is required",
    }


@pytest.mark.parametrize("value", [5, "x", [], True])
def test_a_nested_object_that_is_none_is_named_by_its_own_path(value: object) -> None:
    named = refused_value(VALID | {"filter": value, "local_window": value})
    assert named == {"filter": "must be a JSON object", "local_window": "must be a JSON object"}


def test_null_is_taken_where_the_field_allows_it_and_named_where_not() -> None:
    assert refused_value(dict.fromkeys(VALID)).keys() == {"text", "starts_at", "ends_at", "filter"}
    assert refused_value(dict.fromkeys(VALID), MailingPatch).keys() == {"text", "starts_at", "ends_at", "filter"}
    assert parse(b'{"local_window": null}', MailingPatch).local_window is None


def test_a_nul_character_is_named_wherever_it_stands() -> None:
    body = VALID | {"text": "a\x00b", "filter": {"tags": ["vip", "v\x00p"]}, "starts_at": "\x00"}
    nul = "must not contain a NUL character"
    assert refused_value(body) == {"text": nul, "starts_at": nul, "filter.tags.1": nul}


def test_a_list_that_is_too_long_is_named_once_and_its_items_are_not_looked_at() -> None:
    named = refused_value(VALID | {"filter": {"tags": [5] * 50_000}})
    assert named == {"filter.tags": "must be up to 100 tags; empty matches every client"}


def test_a_flood_of_unknown_fields_gets_a_short_answer() -> None:
    named = refused_value({f"{number}{'x' * 200}": 0 for number in range(10_000)} | VALID)
    assert len(named) == 100
    assert {len(name) for name in named} == {100}


def test_what_contradicts_itself_is_named_beside_what_is_wrong_alone() -> None:
    backwards = {"starts_at": VALID["ends_at"], "ends_at": VALID["starts_at"]}
    body = backwards | {"local_window": {"start": "9", "end": "21:00"}}
    assert refused_value(body) == {
        "text": "is required",
        "ends_at": "must be after starts_at",
        "local_window.start": "must be a time of day such as 09:00",
    }


class Colour(StrEnum):
    red = "red"


class Undescribed(Struct):
    """Fields without a phrase of their own."""

    colour: Colour | None = None
    shade: Literal["light", "dark"] = "light"
    count: int | UnsetType = UNSET
    marks: list[int] = []
    either: int | Annotated[str, Meta(max_length=3)] = 0


def test_a_field_without_a_phrase_is_refused_by_its_type_and_its_value_is_not_repeated() -> None:
    body = {"colour": "s3cret", "shade": "s3cret", "count": "s3cret", "marks": ["s3cret", 1, None], "either": "s3cret"}
    named = refused_value(body, Undescribed)
    assert named.keys() == {"colour", "shade", "count", "marks.0", "marks.2", "either"}
    assert all(message.startswith(("exp", "inv")) and "s3cret" not in message for message in named.values())


def test_the_fields_of_a_patch_that_were_given_are_told_from_those_left_out() -> None:
    assert given_fields(parse(b"{}", MailingPatch)) == {}
    given = given_fields(parse(b'{"local_window": null, "text": "x"}', MailingPatch))
    assert given == {"local_window": None, "text": "x"}


# --- random documents -----------------------------------------------------------------------------------------------

quick = settings(max_examples=80)
characters = st.characters(exclude_categories=["Cs"], exclude_characters="\x00")
texts = st.text(characters, min_size=1, max_size=50).map(lambda text: unicodedata.normalize("NFC", text))
tags = texts.map(str.strip).filter(is_tag)
codes = st.from_regex(r"\A[0-9]{3}\Z")
walls = st.from_regex(r"\A([01][0-9]|2[0-3]):[0-5][0-9]\Z")
offsets = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
instants = st.datetimes(datetime(2000, 1, 3), datetime(2099, 12, 29), timezones=offsets)  # noqa: DTZ001 - st adds the zone
filters = st.builds(Filter, tags=st.lists(tags, max_size=5), operator_codes=st.lists(codes, max_size=5))
windows = st.tuples(walls, walls).filter(lambda pair: pair[0] != pair[1]).map(lambda pair: LocalWindowIn(*pair))


@st.composite
def mailings(draw: st.DrawFn) -> MailingIn:
    starts_at, ends_at = sorted(draw(st.tuples(instants, instants).filter(lambda pair: pair[0] != pair[1])))
    text = draw(texts.filter(re.compile(VISIBLE).search))
    return MailingIn(text, starts_at, ends_at, draw(filters), draw(st.none() | windows))


@quick
@given(mailings())
def test_a_valid_struct_survives_the_way_to_json_and_back(mailing: MailingIn) -> None:
    assert parse(msgspec.json.encode(mailing), MailingIn) == mailing


@quick
@given(st.fixed_dictionaries({}, optional={name: st.just(value) for name, value in VALID.items()}))
def test_a_patch_of_any_of_the_fields_is_taken_as_it_is(some: dict[str, Any]) -> None:
    patch = parse(msgspec.json.encode(some), MailingPatch)
    assert given_fields(patch).keys() == some.keys()


def outermost(paths: set[str]) -> set[str]:
    """Drop the damage inside a part that is replaced whole."""
    return {path for path in paths if not any(path.startswith(other + ".") for other in paths)}


@st.composite
def damages(draw: st.DrawFn) -> Mapping[str, object]:
    paths = outermost(draw(st.sets(st.sampled_from(sorted(BAD)), min_size=1)))
    return {path: draw(st.sampled_from(BAD[path])) for path in sorted(paths)}


@quick
@given(damages(), st.sampled_from([MailingIn, MailingPatch]))
def test_exactly_the_damaged_fields_are_named(damage: Mapping[str, object], kind: type[Struct]) -> None:
    assert refused_value(damaged(damage), kind).keys() == damage.keys()


@quick
@given(st.sets(st.sampled_from(sorted(VALID))), st.sets(texts))
def test_exactly_the_missing_and_the_unknown_fields_are_named(missing: set[str], unknown: set[str]) -> None:
    unknown -= VALID.keys()
    document = {name: value for name, value in VALID.items() if name not in missing} | dict.fromkeys(unknown, 1)
    expected = unknown | missing - {"filter", "local_window"}
    named = refused_value(document).keys() if expected else set()
    assert named == expected


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from([*VALID, "tags", "start"]), inner),
    max_leaves=20,
)


@quick
@given(JSON | st.dictionaries(st.sampled_from(sorted(VALID)), JSON), st.sampled_from([MailingIn, MailingPatch]))
def test_any_json_is_taken_or_refused_and_never_an_accident(value: object, kind: type[Struct]) -> None:
    try:
        taken = check(value, kind)
    except Invalid as refusal:
        assert all(found.field and found.message for found in refusal.errors)  # noqa: PT017 - both ways are right
    else:
        assert isinstance(taken, kind)


@quick
@given(st.binary() | st.binary().map(lambda body: b'{"text": "' + body + b'"}'))
def test_any_bytes_are_taken_or_refused_and_never_an_accident(body: bytes) -> None:
    with pytest.raises(Invalid):
        parse(body, MailingIn)


class Pair(Struct):
    """With a rule over both fields, within a list of such."""

    low: int
    high: int

    @staticmethod
    def contradictions(fields: Mapping[str, Any]) -> Iterator[FieldError]:
        if fields.get("low", 0) > fields.get("high", 0):
            yield FieldError("high", "must not be below low")


class Pairs(Struct):
    pairs: Annotated[list[Pair], Meta(max_length=3, description="up to 3 pairs")]


def test_a_list_of_objects_is_read_item_by_item() -> None:
    assert parse(b'{"pairs": [{"low": 1, "high": 2}]}', Pairs) == Pairs([Pair(1, 2)])
    named = refused(b'{"pairs": [{"low": 1, "high": 2}, {"low": 2, "high": 1}, 5]}', Pairs)
    assert named == {"pairs.1.high": "must not be below low", "pairs.2": "must be a JSON object"}
    assert refused(b'{"pairs": [1, 2, 3, 4]}', Pairs) == {"pairs": "must be up to 3 pairs"}


def test_a_byte_order_mark_before_json_is_skipped() -> None:
    body = msgspec.json.encode(VALID)
    assert parse(b"\xef\xbb\xbf" + body, MailingIn) == parse(body, MailingIn)
