"""Infobip's SMS API v3. The base address is the account's own, such as https://xxxxx.api.infobip.com."""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from mailing.gateway.outcome import Answer, Response
from mailing.gateway.providers.parsing import Code, by_code, code_of, message_of, parsed, parsed_list, word_of
from mailing.gateway.providers.provider import JSON, Call, CredentialsCheck, Outgoing, Provider
from mailing.gateway.providers.receipt import Receipt, ReceiptRequest, ReceiptState, Reply
from mailing.gateway.providers.verdicts import Verdict, answer, by_account, by_status
from mailing.settings import Settings

MAX_VALID_S: Final = 48 * 3600
DUPLICATE: Final = 23
COMMON: Final = re.compile(r"\b(sender|webhooks)\b")  # members that are alike in all messages
UNCLEAR: Final = {2, 29}  # delivered to the operator; expired without a report of the operator

STATES: Final = by_code(  # groups of statuses
    (ReceiptState.accepted, "1"),  # pending
    (ReceiptState.delivered, "3"),
    (ReceiptState.undelivered, "2 4 5"),  # undeliverable, expired, rejected
)
# Statuses of messages that were not taken, by their id. They come with HTTP 200.
STATUSES: Final = by_code(
    (Verdict.refused, "6 8 14 51 52"),  # destination: network out of coverage, prefix missing, blocklisted, invalid
    (Verdict.refused, "10"),  # do not disturb
    (Verdict.refused, "24 25"),  # header, too long
    (Verdict.refused, "87"),  # taken for fraud
    (Verdict.setup, "11 13"),  # sender not registered, blocklisted
    (Verdict.setup, "18 19"),  # a trial account: only its own number; no route
    (Verdict.no_credit, "12 17"),  # not enough credits, prepaid package expired
    (Verdict.refused_for_now, "20"),  # flooding: 20 different or 6 equal texts an hour to one number
    (Verdict.refused_for_now, "21 100"),  # system error, "retry the submission"; malformed or temporarily unavailable
    (Verdict.duplicate, "23"),
)


class _Status(msgspec.Struct, rename="camel"):
    group_id: Code
    id: int
    name: Any = None


class _Error(msgspec.Struct):
    id: Any = None
    name: Any = None


class _Message(msgspec.Struct, rename="camel"):
    """A message in a response. In a report it has an error and a time too."""

    status: _Status
    message_id: Any = None
    error: _Error | None = None
    done_at: Any = None


class _Violation(msgspec.Struct):
    property: Any = None


class _Reply(msgspec.Struct, rename={"phone": "from"}):
    phone: str | int
    text: str


class _Balance(msgspec.Struct):
    balance: Any


class Infobip(Provider):
    name = "infobip"
    required_settings = ("gateway_token",)
    repeat_is_safe = True  # a second message with the same id is rejected
    sends_receipts = True
    credentials_check = CredentialsCheck("GET", "/account/1/balance")
    max_text_length = None  # 4,000 bytes: more than a mailing's text

    def __init__(self, settings: Settings) -> None:
        self.headers = JSON | {"Authorization": f"App {settings.gateway_token or ''}"}

    def encode(self, message: Outgoing) -> Call:
        item: dict[str, Any] = {
            "destinations": [{"to": message.phone, "messageId": message.reference}],
            "content": {"text": message.text},
            "options": {"validityPeriod": {"amount": min(message.valid_for_s, MAX_VALID_S), "timeUnit": "SECONDS"}},
        }
        if message.sender:
            item["sender"] = message.sender
        if message.receipt_url:
            item["webhooks"] = {"delivery": {"url": message.receipt_url}, "contentType": "application/json"}
        return Call("/sms/3/messages", msgspec.json.encode({"messages": [item]}))

    def classify(self, response: Response, message_id: int) -> Answer:
        if response.status == 400 and _is_of_every_message(response.body):
            return answer(Verdict.setup, response)
        if not response.is_success:
            return by_status(response)
        messages = parsed_list(response.body, "messages", _Message) or []
        message = messages[0] if len(messages) == 1 else None
        if message is None or message_of(message.message_id) not in {None, message_id}:
            return answer(Verdict.ambiguous, response)
        status, reference = message.status, message.message_id
        state = STATES.get(str(status.group_id))
        verdict = Verdict.accepted if state else Verdict.ambiguous
        if state is ReceiptState.undelivered:
            verdict = STATUSES.get(str(status.id), Verdict.refused_for_now)
        return answer(verdict, response, code=code_of(status.id), provider_id=word_of(reference))

    def read_credentials_check(self, response: Response) -> Answer:
        found = parsed(response.body, _Balance) if response.status == 200 else None
        return answer(Verdict.accepted, response) if found else by_account(response)

    def parse_receipts(self, request: ReceiptRequest) -> Sequence[Receipt] | None:
        found = parsed_list(request.body, "results", _Message)
        reports = [report for report in found or () if report and message_of(report.message_id) is not None]
        if found is None or (found and not reports):
            return None
        # A report that a repeat was rejected says nothing of the first.
        return [_receipt(report) for report in reports if report.status.id != DUPLICATE]

    def parse_replies(self, request: ReceiptRequest) -> Sequence[Reply] | None:
        found = parsed_list(request.body, "results", _Reply)
        replies = [Reply(str(reply.phone), reply.text) for reply in found or () if reply]
        return None if found is None or (found and not replies) else replies


def _is_of_every_message(body: bytes) -> bool:
    """Whether an error is about a member that comes from the settings, such as the sender."""
    violations = parsed_list(body, "violations", _Violation) or []
    return any(COMMON.search(str(each.property)) for each in violations if each)


def _receipt(report: _Message) -> Receipt:
    status, error = report.status, report.error
    state = ReceiptState.accepted if status.id in UNCLEAR else STATES.get(str(status.group_id))
    reason = error.name if error and error.id else status.name
    return Receipt.of(state, word_of(reason), message_id=message_of(report.message_id), at=_instant(report.done_at))


def _instant(text: object) -> datetime | None:
    try:
        return datetime.strptime(str(text), "%Y-%m-%dT%H:%M:%S.%f%z")
    except ValueError:
        return None
