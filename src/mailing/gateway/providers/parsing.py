"""Parse codes, references and bodies of providers. No function here raises, whatever the bytes are."""

import re
from collections.abc import Mapping
from typing import Annotated, Final, TypeVar
from urllib.parse import parse_qs, unquote_to_bytes

import msgspec

from mailing.gateway.outcome import json_object

_CODES: Final = range(-(2**31), 2**31)
Code = Annotated[int, msgspec.Meta(ge=_CODES.start, lt=_CODES.stop)]  # a number that is stored as the provider's code

_REFERENCE: Final = re.compile(r"[0-9a-f]{10}-([1-9][0-9]{0,18})-[0-9]{1,3}", re.ASCII)

T = TypeVar("T")
S = TypeVar("S", bound=msgspec.Struct)


def by_code(*rows: tuple[T, str]) -> Mapping[str, T]:
    """Make a table of rows such as `(Verdict.refused, "21211 21214")`. Raise ValueError for a code listed twice."""
    pairs = [(code, value) for value, codes in rows for code in codes.split()]
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a code is listed twice")
    return table


def parsed(body: bytes, kind: type[S]) -> S | None:
    """Return the body's JSON object, or None if it is something else or a member is missing or of another type."""
    return _converted(json_object(body), kind)


def parsed_list(body: bytes, member: str, kind: type[S]) -> list[S | None] | None:
    """Return the items in a member of the body's JSON object: None for each that is not of that kind."""
    found = json_object(body)
    items = found.get(member) if isinstance(found, dict) else None
    return [_converted(item, kind) for item in items] if isinstance(items, list) else None


def _converted(value: object, kind: type[S]) -> S | None:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return None


def code_of(value: object) -> int | None:
    """Return the number to store as the provider's code, or None: no message is refused for its code's type."""
    return value if type(value) is int and value in _CODES else None


def word_of(value: object) -> str | None:
    return value if isinstance(value, str) else None


def form(body: bytes) -> Mapping[str, str]:
    """Return the first value of each field; nothing if it is not a form. What is not UTF-8 is read as Windows-1251,
    which is SMSC.ru's own encoding.
    """
    encoding, errors = ("utf-8", "strict") if _is_utf8(body) else ("cp1251", "replace")
    try:
        fields = parse_qs(body.decode(encoding, errors), encoding=encoding, errors=errors, max_num_fields=200)
    except ValueError:
        return {}
    return {name: values[0] for name, values in fields.items()}


def _is_utf8(body: bytes) -> bool:
    try:
        unquote_to_bytes(body).decode()
    except UnicodeDecodeError:
        return False
    return True


def message_of(reference: object) -> int | None:
    """Return the message whose reference this is, or None: another program may use the same account."""
    found = _REFERENCE.fullmatch(reference) if isinstance(reference, str) else None
    return int(found[1]) if found else None
