"""The last defence of the logs: whatever is about to be written loses phones, texts and secrets.

Nothing should come here that has to be taken out. An exception is told by its kind and the first line of its message
without what stands in quotes: that is where libraries and the database repeat values.
"""

import re
from collections.abc import Collection, Iterator, MutableMapping
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any

HIDDEN_KEYS = frozenset({"text", "body", "phone", "token", "password", "authorization", "parameters", "key"})
HIDDEN = "***"

_PHONES = range(7 * 10**10, 8 * 10**10)  # as numbers: no id is as great, and no restored one as small
# One id in a hundred of a request or a trace has a phone's digits in it, and must be found again as it is.
_PHONE = re.compile(r"\b[0-9a-f]{32}\b|(?<!\d)(7\d{3})\d{3}(\d{4})(?!\d)")
_CREDENTIALS = re.compile(r"(?i)\b(mk_|bearer\s+|basic\s+)[\w~+/=.-]{8,}|(?<=://)[^\s/@:]*:[^\s/@]*(?=@)")
_ADDRESS = re.compile(r"(?<![\w.+-])([\w.+-])[\w.+-]*+(?=@[\w.-])")  # begins at a run's first sign: linear
_QUOTED = re.compile(r"""(['"]).*(['"])""")

Event = MutableMapping[str, Any]


class Masking:
    """A structlog processor, the one before the renderer. `secrets` are hidden wherever they stand."""

    def __init__(self, secrets: Collection[str] = ()) -> None:
        longest_first = sorted((re.escape(secret) for secret in secrets), key=len, reverse=True)
        self._secrets = re.compile("|".join(longest_first)) if secrets else None
        self.mask = lru_cache(1024)(self._mask)  # methods, routes and callers come again and again

    def __call__(self, _logger: object, _level: str, event: Event) -> Event:
        return {key: HIDDEN if key in HIDDEN_KEYS else self._masked(value) for key, value in event.items()}

    def _masked(self, value: Any) -> Any:  # noqa: ANN401 - whatever is logged
        match value:
            case None | bool() | float():
                return value
            case int() if value not in _PHONES:
                return value
            case dict():
                return self("", "", value)
            case list() | tuple():
                return [self._masked(each) for each in value]
            case _:
                return self.mask(str(value))

    def _mask(self, text: str) -> str:
        known = self._secrets.sub(HIDDEN, text) if self._secrets else text
        return _CREDENTIALS.sub(HIDDEN, _PHONE.sub(_masked_phone, known))


def _masked_phone(found: re.Match[str]) -> str:
    return f"{found[1]}{HIDDEN}{found[2]}" if found[1] else found[0]


def mask_addresses(text: str) -> str:
    """E-mail addresses to be recognised by who knows them: `o***@example.org`."""
    return _ADDRESS.sub(rf"\1{HIDDEN}", text)


def render_exception(_logger: object, _level: str, event: Event) -> Event:
    """A structlog processor: `exception` instead of `exc_info`."""
    error = _exception(event.pop("exc_info", None))
    if error is not None:
        event["exception"] = "\n".join(_told(error))
    return event


def _exception(given: object) -> BaseException | None:
    import sys  # noqa: PLC0415 - only where something went wrong

    if given is True:
        return sys.exc_info()[1]
    if isinstance(given, tuple):
        given = given[1]
    return given if isinstance(given, BaseException) else None


def _told(error: BaseException, *, why: str = "") -> Iterator[str]:
    """Innermost cause first, as Python tells it."""
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None:
        yield from _told(cause, why="…which led to:")
    yield from _frames(error.__traceback__)
    yield f"{type(error).__module__}.{type(error).__qualname__}: {_safe(error)}"
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _told(each)
    if why:
        yield why


def _frames(traceback: TracebackType | None) -> Iterator[str]:
    while traceback:
        code = traceback.tb_frame.f_code
        yield f"  {Path(code.co_filename).name}:{traceback.tb_lineno} {code.co_qualname}"
        traceback = traceback.tb_next


def _safe(error: BaseException) -> str:
    first, *_ = str(error).splitlines() or [""]
    return _QUOTED.sub(r"\1…\2", first)
