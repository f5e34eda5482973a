"""Mask phones, texts and secrets in everything that is logged, as a last line of defence.

The code should never log anything that needs masking. Of an exception, its class and the first line of its message are
logged, without quoted parts, in which libraries and the database repeat values.
"""

import re
import sys
from collections.abc import Collection, Iterator, MutableMapping
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any

HIDDEN_KEYS = frozenset({"text", "body", "phone", "token", "password", "authorization", "parameters", "key"})
HIDDEN = "***"

# as integers: ids never reach this range, and ids raised after a restore are above it
_PHONES = range(7 * 10**10, 8 * 10**10)
# One in a hundred request or trace ids contains the digits of a phone; ids must stay searchable.
_PHONE = re.compile(r"\b[0-9a-f]{32}\b|(?<!\d)(7\d{3})\d{3}(\d{4})(?!\d)")
_CREDENTIALS = re.compile(r"(?i)\b(mk_|bearer\s+|basic\s+)[\w~+/=.-]{8,}|(?<=://)[^\s/@:]*:[^\s/@]*(?=@)")
# starts at the first character of a run, so it is linear
_ADDRESS = re.compile(r"(?<![\w.+-])([\w.+-])[\w.+-]*+(?=@[\w.-])")
_QUOTED = re.compile(r"""(['"]).*(['"])""")

Event = MutableMapping[str, Any]


class Masking:
    """A structlog processor, the last before the renderer. `secrets` are masked wherever they appear."""

    def __init__(self, secrets: Collection[str] = ()) -> None:
        self._secrets = sorted(secrets, key=len, reverse=True)
        self.mask = lru_cache(1024)(self._mask)  # methods, routes and callers repeat

    def __call__(self, _logger: object, _level: str, event: Event) -> Event:
        for key, value in event.items():
            if key in HIDDEN_KEYS:
                event[key] = HIDDEN
            elif type(value) is str:  # nearly all
                event[key] = self.mask(value)
            else:
                event[key] = self._masked(value)
        return event

    def _masked(self, value: Any) -> Any:  # noqa: ANN401 - whatever is logged
        match value:
            case int() if value not in _PHONES:
                return value
            case None | float():
                return value
            case dict():
                return self("", "", {**value})
            case list() | tuple():
                return [self._masked(each) for each in value]
            case _:
                return self.mask(str(value))

    def _mask(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        text = _PHONE.sub(_masked_phone, text)
        return text if text.isalnum() else _CREDENTIALS.sub(HIDDEN, text)  # an id has no sign that those begin with


def _masked_phone(found: re.Match[str]) -> str:
    return f"{found[1]}{HIDDEN}{found[2]}" if found[1] else found[0]


def mask_addresses(text: str) -> str:
    """Shorten e-mail addresses so that only those who know them recognize them: `o***@example.org`."""
    return _ADDRESS.sub(rf"\1{HIDDEN}", text)


def render_exception(_logger: object, _level: str, event: Event) -> Event:
    """Replace `exc_info` by a masked `exception`. A structlog processor."""
    if "exc_info" in event and (error := _exception(event.pop("exc_info"))) is not None:
        event["exception"] = "\n".join(_rendered(error))
    return event


def _exception(given: object) -> BaseException | None:
    if given is True:
        return sys.exc_info()[1]
    if isinstance(given, tuple):
        given = given[1]
    return given if isinstance(given, BaseException) else None


def _rendered(error: BaseException, *, why: str = "") -> Iterator[str]:
    """Yield the lines of a traceback, innermost cause first, as Python prints it."""
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None:
        yield from _rendered(cause, why="…which led to:")
    yield from _frames(error.__traceback__)
    first, *_ = str(error).splitlines() or [""]
    safe = _QUOTED.sub(r"\1…\2", first)
    yield f"{type(error).__module__}.{type(error).__qualname__}: {safe}"
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _rendered(each)
    if why:
        yield why


def _frames(traceback: TracebackType | None) -> Iterator[str]:
    while traceback:
        code = traceback.tb_frame.f_code
        yield f"  {Path(code.co_filename).name}:{traceback.tb_lineno} {code.co_qualname}"
        traceback = traceback.tb_next
