"""How tables are made and bodies are read, for every provider."""

import json

import msgspec
import pytest

from mailing.gateway.providers.parsing import Code, by_code, message_of, parsed, parsed_list


class Told(msgspec.Struct):
    code: Code
    text: str = ""


def test_a_table_has_a_row_for_each_verdict() -> None:
    assert by_code(("refused", "1 2"), ("throttled", "3"), ("refused", "-4")) == {
        "1": "refused",
        "2": "refused",
        "3": "throttled",
        "-4": "refused",
    }


@pytest.mark.parametrize("codes", ["1 2 1", "1 3"])
def test_a_code_is_not_listed_twice(codes: str) -> None:
    with pytest.raises(ValueError, match="a code is listed twice"):
        by_code(("refused", codes), ("throttled", "3"))


def test_an_object_of_the_right_types_is_read_and_its_other_members_are_not() -> None:
    assert parsed(b'{"code": 7, "text": "a", "more": [{}]}', Told) == Told(7, "a")
    assert parsed_list(b'{"items": [{"code": 7}]}', "items", Told) == [Told(7)]
    assert parsed_list(b'{"items": []}', "items", Told) == []


@pytest.mark.parametrize(
    "told",
    [
        *(b"", b"{}", b"[]", b"null", b"7", b"\xff", b"<html>"),
        *(b'{"code": "7"}', b'{"code": true}', b'{"code": 7.5}', b'{"code": null}', b'{"code": [7]}'),
        *(b'{"code": 7, "code": 8}', b'{"code": 7, "text": NaN}', b'{"code": 7, "text": 5}', b'{"code": 7} {}'),
        *(b'{"code": 7, "more": "\xff"}', b'{"code": 2147483648}', b'{"code": -2147483649}'),
        b'{"code": %s}' % (b"9" * 5000),
        b'{"code": 7, "more": %s}' % (b"[" * 5000 + b"]" * 5000),
    ],
)
def test_anything_else_is_none(told: bytes) -> None:
    assert parsed(told, Told) is None
    assert parsed_list(b'{"items": [%s]}' % told, "items", Told) in ([], [None], None)
    assert parsed_list(told, "items", Told) is None


def test_one_odd_object_spoils_no_other() -> None:
    assert parsed_list(b'{"items": [{"code": 7}, {}]}', "items", Told) == [Told(7), None]


@pytest.mark.parametrize(
    "reference", [None, 42, "42", "0123456789-0-0", "0123456789-042-0", "0123456789-42-0\n", [], {}]
)
def test_a_reference_of_another_program_is_none(reference: object) -> None:
    assert message_of(reference) is None
    assert message_of(json.loads('"0123456789-42-0"')) == 42
