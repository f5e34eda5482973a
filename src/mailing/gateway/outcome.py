"""The outcome of a call, and the parts that every provider's answers share: HTTP status, JSON, Retry-After.

Pure: no clock, no network, no framework. Anything uncertain is `ambiguous`, because the alternatives are worse: a wrong
`accepted` makes a status false, and a wrong `refused` loses a message.
"""

import email.utils
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, NoReturn, assert_never

import msgspec

from mailing.reasons.codes import Fact, Reason, ReasonCode

RETRY_AFTER_CAP_S: Final = 900.0


class Outcome(StrEnum):
    """The result of one call."""

    accepted = "accepted"
    not_sent = "not_sent"
    throttled = "throttled"
    refused = "refused"
    soft_refusal = "soft_refusal"
    ambiguous = "ambiguous"
    configuration = "configuration"

    @property
    def counts_as_attempt(self) -> bool:
        """Whether the call uses up an attempt of its message; `throttled` and `configuration` are not about the
        message.
        """
        match self:
            case Outcome.accepted | Outcome.not_sent | Outcome.refused | Outcome.soft_refusal | Outcome.ambiguous:
                return True
            case Outcome.throttled | Outcome.configuration:
                return False
            case _:
                assert_never(self)


# A status that is not here, and not 2xx or 3xx, is ambiguous. 5xx may have failed after accepting. 1xx is not a final
# answer. Another 4xx (402, 406, 418, …) is documented nowhere, and `refused` would end a message for good on a guess.
STATUSES: Final[dict[int, Outcome]] = {
    408: Outcome.not_sent,
    425: Outcome.not_sent,
    429: Outcome.throttled,
    400: Outcome.refused,
    413: Outcome.refused,
    414: Outcome.refused,
    415: Outcome.refused,
    422: Outcome.refused,
    401: Outcome.configuration,
    403: Outcome.configuration,
    404: Outcome.configuration,
    405: Outcome.configuration,
    409: Outcome.accepted,  # "duplicate id": the gateway has this message already, whatever the body looks like
}


class Response(msgspec.Struct, frozen=True):
    """A complete HTTP response of the provider. `now` is when it came, with a time zone; a Retry-After needs it."""

    status: int
    body: bytes
    retry_after: str | None = None
    now: datetime | None = None

    @property
    def is_success(self) -> bool:
        return 200 <= self.status <= 299


class Answer(msgspec.Struct, frozen=True):
    """The outcome of one call, and what is worth recording of it.

    `facts` are what the words for `reason` need beside status and code. They never hold a part of the body, a phone, a
    text or a token. `code` fits a bigint. `retry_after_s` is 0 … 900, or None when the gateway did not say.
    `provider_id` is the provider's own id of the message: printable ASCII, 128 characters at most.
    """

    outcome: Outcome
    http_status: int | None = None
    code: int | None = None
    reason: ReasonCode | None = None
    retry_after_s: float | None = None
    facts: Mapping[str, Fact] = {}
    provider_id: str | None = None

    @property
    def full_reason(self) -> Reason | None:
        if self.reason is None:
            return None
        fields = {"http_status": self.http_status, "code": self.code}
        known = {name: value for name, value in fields.items() if value is not None}
        return Reason(self.reason, {**known, **self.facts})


def by_status(response: Response) -> Outcome:
    if 300 <= response.status <= 399:
        return Outcome.configuration
    if response.status == 503 and response.retry_after is not None and response.retry_after.strip():
        return Outcome.throttled
    return STATUSES.get(response.status, Outcome.ambiguous)


def json_object(body: bytes) -> dict[str, Any] | ReasonCode:
    """Return the object, or why there is none. Python's own parser can refuse a repeated key and NaN."""
    if not body.strip():
        return ReasonCode.empty_body
    try:
        reply = _parse(body.decode())
    except (ValueError, RecursionError):  # RecursionError: 1,000 levels are enough, and 64 KiB hold far more
        return ReasonCode.html if body.lstrip().startswith(b"<") else ReasonCode.not_json
    return reply if isinstance(reply, dict) else ReasonCode.not_an_object


def _without_repeated_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a repeated key: two readers could read two answers")
    return members


def _refuse_constant(_: str) -> NoReturn:
    raise ValueError("NaN and infinities are not JSON")


_parse = json.JSONDecoder(object_pairs_hook=_without_repeated_keys, parse_constant=_refuse_constant).decode


def retry_after_s(retry_after: str | None, now: datetime | None) -> float | None:
    """Return Retry-After in seconds from `now`, between 0 and the cap. None: neither a number nor a date."""
    if retry_after is None or now is None:
        return None
    if re.fullmatch(r"[+-]?\d{1,300}(\.\d{1,300})?", retry_after.strip(), re.ASCII):
        wait = float(retry_after)
    else:
        try:
            then = email.utils.parsedate_to_datetime(retry_after)
        except (ValueError, OverflowError, TypeError, IndexError):  # the parser documents only ValueError
            return None
        wait = (then.replace(tzinfo=then.tzinfo or UTC) - now).total_seconds()
    return min(max(wait, 0.0), RETRY_AFTER_CAP_S)
