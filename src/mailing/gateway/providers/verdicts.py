"""What the codes of providers come to: the classes that their tables are made of."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from urllib.parse import parse_qs

import msgspec

from mailing.gateway.outcome import STATUSES, Answer, Outcome, json_object, retry_after_s
from mailing.reasons.codes import ReasonCode


class Verdict(msgspec.Struct, frozen=True):
    outcome: Outcome
    reason: ReasonCode = ReasonCode.provider_code


ACCEPTED: Final = Verdict(Outcome.accepted)
DUPLICATE: Final = Verdict(Outcome.accepted, ReasonCode.duplicate_reference)
REFUSED: Final = Verdict(Outcome.refused)
SOFT: Final = Verdict(Outcome.soft_refusal)  # this message, for now
THROTTLED: Final = Verdict(Outcome.throttled)
NOT_SENT: Final = Verdict(Outcome.not_sent)
AMBIGUOUS: Final = Verdict(Outcome.ambiguous)
# They say nothing of the message: sending stops, and the operator is told why.
LOGIN: Final = Verdict(Outcome.configuration, ReasonCode.credentials_refused)
NO_CREDIT: Final = Verdict(Outcome.configuration, ReasonCode.no_credit)
SETUP: Final = Verdict(Outcome.configuration, ReasonCode.provider_setup)

# 409 is a duplicate to the Probe server alone.
_BY_STATUS: Final[Mapping[int, Verdict]] = {
    status: {Outcome.refused: REFUSED, Outcome.throttled: THROTTLED, Outcome.configuration: SETUP}[outcome]
    for status, outcome in STATUSES.items()
    if outcome in (Outcome.refused, Outcome.throttled, Outcome.configuration)
} | {401: LOGIN, 402: NO_CREDIT, 408: NOT_SENT, 425: NOT_SENT}

_REFERENCE: Final = re.compile(r"[0-9a-f]{10}-([1-9][0-9]{0,18})-[0-9]{1,3}", re.ASCII)
_FIT: Final = re.compile(r"[!-~]{1,128}")


def answer(
    verdict: Verdict,
    status: int,
    *,
    error: int | str | None = None,
    provider_id: object = None,
    retry_after: str | None = None,
    now: datetime | None = None,
) -> Answer:
    """Return the answer of a verdict. `error` is the provider's code, never a text of it."""
    return Answer(
        verdict.outcome,
        status,
        error if isinstance(error, int) else None,
        None if verdict is ACCEPTED else verdict.reason,
        retry_after_s=retry_after_s(retry_after, now) if now and verdict is THROTTLED else None,
        facts={} if verdict is ACCEPTED else {"error": f"HTTP {status}" if error is None else error},
        provider_id=provider_id if isinstance(provider_id, str) and _FIT.fullmatch(provider_id) else None,
    )


def by_status(status: int, retry_after: str | None, now: datetime) -> Answer:
    """Classify an answer by its HTTP status alone. 2xx is ambiguous: it says nothing without its body."""
    verdict = _BY_STATUS.get(status, AMBIGUOUS)
    if 300 <= status <= 399:
        verdict = SETUP
    elif status == 503 and retry_after is not None and retry_after.strip():
        verdict = THROTTLED
    return answer(verdict, status, retry_after=retry_after, now=now)


def by_account(status: int) -> Answer:
    """Classify the answer to a check of credentials by its status alone."""
    return answer(LOGIN if status in (401, 403) else AMBIGUOUS, status)


def members(body: bytes) -> dict[str, Any]:
    """Return the body's JSON object; an empty one if it is something else."""
    found = json_object(body)
    return found if isinstance(found, dict) else {}


def form(body: bytes) -> dict[str, str]:
    """Return the first value of each field; nothing if it is not a form."""
    try:
        return {name: values[0] for name, values in parse_qs(body.decode(), max_num_fields=200).items()}
    except ValueError:
        return {}


def short_code(value: str | None) -> str | None:
    """Return a provider's reason, fit to be stored and shown, or None."""
    return value[:32] if value and re.fullmatch(r"[ -~]+", value) else None


def message_of(reference: object) -> int | None:
    """Return the message whose reference this is, or None: another program may use the same account."""
    found = _REFERENCE.fullmatch(reference) if isinstance(reference, str) else None
    return int(found[1]) if found else None
