"""The Probe server: one operation, no receipts, and no word on whether a repeated id is recognised."""

import re
from typing import Final

import msgspec

from mailing.gateway.outcome import Answer, Outcome, Response, by_status, json_object, retry_after_s
from mailing.gateway.providers.provider import JSON, Call, Outgoing, Provider
from mailing.reasons.codes import ReasonCode
from mailing.settings import Settings

BIGINT: Final = range(-(2**63), 2**63)
_REASONS: Final = {Outcome.accepted: ReasonCode.duplicate_id, Outcome.configuration: ReasonCode.configuration}
_encode = msgspec.json.Encoder().encode


class Probe(Provider):
    name = "probe"

    def __init__(self, settings: Settings) -> None:
        """Raise ValueError for a token that no call could be made with."""
        token = settings.gateway_token
        if token is not None and not re.fullmatch(r"[!-~]+", token):
            raise ValueError("the gateway's token must be visible ASCII characters without spaces")
        self.headers = JSON if token is None else JSON | {"Authorization": f"Bearer {token}"}

    def encode(self, message: Outgoing) -> Call:
        body = _encode({"id": message.id, "phone": int(message.phone), "text": message.text})
        return Call(f"/send/{message.id}", body)

    def classify(self, response: Response, message_id: int) -> Answer:
        return classify(response, message_id)


def classify(response: Response, message_id: int) -> Answer:
    """Ignore the content type on purpose: the gateway is known to send `text/json`."""
    status = response.status
    if response.is_success:
        return _by_body(status, response.body, message_id)
    outcome = by_status(response)
    if outcome is Outcome.throttled:
        wait_s = retry_after_s(response.retry_after, response.now)
        return Answer(outcome, status, reason=ReasonCode.http_status, retry_after_s=wait_s)
    if outcome in (Outcome.accepted, Outcome.refused) and _has_number_of_other(response.body, message_id):
        return Answer(Outcome.ambiguous, status, reason=ReasonCode.other_message_id)
    return Answer(outcome, status, reason=_REASONS.get(outcome, ReasonCode.http_status))


def _by_body(status: int, body: bytes, message_id: int) -> Answer:
    reply = json_object(body)
    if isinstance(reply, ReasonCode):
        return Answer(Outcome.ambiguous, status, reason=reply)
    code = reply.get("code")
    if type(code) is not int or code not in BIGINT:  # bool is an int to Python, not to the gateway
        reason = ReasonCode.no_code if "code" not in reply else ReasonCode.invalid_code
        return Answer(Outcome.ambiguous, status, reason=reason)
    if _is_of_other(reply.get("id"), message_id):
        return Answer(Outcome.ambiguous, status, code, ReasonCode.other_message_id)
    if code == 0:
        return Answer(Outcome.accepted, status, code)
    return Answer(Outcome.soft_refusal, status, code, ReasonCode.gateway_code)


def _is_of_other(answered_id: object, message_id: int) -> bool:
    """Whether the `id` beside a success is another message's. Ours may be a string: JavaScript cannot hold 64 bits."""
    return answered_id is not None and (
        isinstance(answered_id, bool) or answered_id not in (message_id, str(message_id))
    )


def _has_number_of_other(body: bytes, message_id: int) -> bool:
    """Whether the `id` beside an error is another message's number. It may well be a trace id or a slug."""
    reply = json_object(body)
    answered_id = "" if isinstance(reply, ReasonCode) else str(reply.get("id"))
    return answered_id.isdecimal() and answered_id != str(message_id)
