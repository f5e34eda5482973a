"""Verdicts: the classes into which tables sort the codes of providers."""

import re
from enum import Enum
from typing import Final

from mailing.gateway import outcome
from mailing.gateway.outcome import Answer, Outcome, Response, retry_after_s
from mailing.reasons.codes import ReasonCode


class Verdict(Enum):
    """The last three are about the account and not about the message: sending stops, and the operator is told why."""

    accepted = Outcome.accepted, ReasonCode.provider_code
    duplicate = Outcome.accepted, ReasonCode.duplicate_reference
    refused = Outcome.refused, ReasonCode.provider_code
    refused_for_now = Outcome.soft_refusal, ReasonCode.provider_code
    throttled = Outcome.throttled, ReasonCode.provider_code
    not_sent = Outcome.not_sent, ReasonCode.provider_code
    ambiguous = Outcome.ambiguous, ReasonCode.provider_code
    login = Outcome.configuration, ReasonCode.credentials_refused
    no_credit = Outcome.configuration, ReasonCode.no_credit
    setup = Outcome.configuration, ReasonCode.provider_setup


# 409 is a duplicate to the Probe server alone.
_OF_OUTCOME: Final = {
    Outcome.refused: Verdict.refused,
    Outcome.throttled: Verdict.throttled,
    Outcome.configuration: Verdict.setup,
    Outcome.not_sent: Verdict.not_sent,
}
_OF_STATUS: Final = {401: Verdict.login, 402: Verdict.no_credit}


def answer(verdict: Verdict, response: Response, *, code: int | None = None, provider_id: str | None = None) -> Answer:
    """Return the answer of a verdict. `code` is the provider's; no text of it is kept."""
    result, reason = verdict.value
    is_throttled, is_accepted = verdict is Verdict.throttled, verdict is Verdict.accepted
    return Answer(
        result,
        response.status,
        code,
        None if is_accepted else reason,
        retry_after_s=retry_after_s(response.retry_after, response.now) if is_throttled else None,
        facts={} if is_accepted else {"error": f"HTTP {response.status}" if code is None else code},
        provider_id=provider_id if provider_id and re.fullmatch("[!-~]{1,128}", provider_id) else None,
    )


def by_status(response: Response) -> Answer:
    """Classify a response by its HTTP status alone. 2xx is ambiguous: it says nothing without its body."""
    verdict = _OF_OUTCOME.get(outcome.by_status(response), Verdict.ambiguous)
    return answer(_OF_STATUS.get(response.status, verdict), response)


def by_account(response: Response) -> Answer:
    """Classify the response to a check of credentials by its status alone."""
    return answer(Verdict.login if response.status in {401, 403} else Verdict.ambiguous, response)
