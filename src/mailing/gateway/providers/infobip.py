"""Infobip's SMS API v3. The base address is the account's own, such as https://xxxxx.api.infobip.com."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from mailing.gateway.outcome import Answer
from mailing.gateway.providers.provider import (
    Call,
    CredentialsCheck,
    Outgoing,
    Receipt,
    ReceiptRequest,
    ReceiptState,
    Reply,
)
from mailing.gateway.providers.verdicts import (
    ACCEPTED,
    AMBIGUOUS,
    DUPLICATE,
    NO_CREDIT,
    REFUSED,
    SETUP,
    SOFT,
    Verdict,
    answer,
    by_account,
    by_status,
    members,
    message_of,
    short_code,
)

PATH: Final = "/sms/3/messages"
PENDING, UNDELIVERABLE, DELIVERED, EXPIRED, REJECTED = 1, 2, 3, 4, 5  # groups of statuses
TO_OPERATOR, DUPLICATE_ID = 2, 23
MAX_VALID_S: Final = 48 * 3600

# Statuses of messages that were not taken, by their id. They come with HTTP 200.
STATUSES: Final[Mapping[int, Verdict]] = {
    6: REFUSED,  # network out of coverage
    8: REFUSED,  # prefix missing
    10: REFUSED,  # do not disturb
    11: SETUP,  # sender not registered
    12: NO_CREDIT,
    13: SETUP,  # sender blocklisted
    14: REFUSED,  # destination blocklisted
    17: NO_CREDIT,  # prepaid package expired
    18: SETUP,  # a trial account: only its own number
    19: SETUP,  # no route
    20: SOFT,  # flooding: 20 different or 6 equal texts an hour to one number
    21: SOFT,  # system error, "retry the submission"
    DUPLICATE_ID: DUPLICATE,
    24: REFUSED,  # header
    25: REFUSED,  # too long
    51: REFUSED,  # no destination
    52: REFUSED,  # destination
    87: REFUSED,  # taken for fraud
    100: SOFT,  # malformed, or temporarily unavailable
}
STATES: Final[Mapping[int, ReceiptState]] = {
    PENDING: ReceiptState.accepted,
    UNDELIVERABLE: ReceiptState.undelivered,
    DELIVERED: ReceiptState.delivered,
    EXPIRED: ReceiptState.undelivered,
    REJECTED: ReceiptState.undelivered,
}

_encode = msgspec.json.Encoder().encode


class Infobip:
    name = "infobip"
    repeat_is_safe = True  # a second message with the same id is rejected
    sends_receipts = True
    receipts_account_wide = False
    receipt_answer = b""
    reply_query = ""
    credentials_check = CredentialsCheck("GET", "/account/1/balance")
    max_text_length = None  # 4,000 bytes: more than a mailing's text

    def __init__(self, key: str) -> None:
        self.headers: Mapping[str, str] = {
            "Accept": "application/json",
            "Content-Type": "application/json",
            "Authorization": f"App {key}",
        }

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
        return Call(PATH, _encode({"messages": [item]}))

    def classify(self, status: int, retry_after: str | None, body: bytes, *, message_id: int, now: datetime) -> Answer:
        if not 200 <= status <= 299:
            return by_status(status, retry_after, now)
        found = _only(members(body).get("messages"))
        told = found.get("status")
        group, code = (told.get("groupId"), told.get("id")) if isinstance(told, dict) else (None, None)
        reference = found.get("messageId")
        if type(group) is not int or type(code) is not int or message_of(reference) not in (None, message_id):
            return answer(AMBIGUOUS, status)
        if group in (PENDING, DELIVERED):
            return answer(ACCEPTED, status, error=code, provider_id=reference)
        if group in (UNDELIVERABLE, EXPIRED, REJECTED):
            return answer(STATUSES.get(code, SOFT), status, error=code, provider_id=reference)
        return answer(AMBIGUOUS, status, error=code)

    def read_credentials_check(self, status: int, body: bytes) -> Answer:
        return answer(ACCEPTED, status) if status == 200 and "balance" in members(body) else by_account(status)

    def parse_receipts(self, request: ReceiptRequest) -> Sequence[Receipt] | None:
        results = members(request.body).get("results")
        if not isinstance(results, list):
            return None
        receipts = [_receipt(result) for result in results if not _is_of_duplicate(result)]
        return None if None in receipts else [receipt for receipt in receipts if receipt]

    def parse_replies(self, request: ReceiptRequest) -> Sequence[Reply] | None:
        results = members(request.body).get("results")
        if not isinstance(results, list):
            return None
        replies = [_reply(result) for result in results]
        return None if None in replies else [reply for reply in replies if reply]


def _only(items: object) -> dict[str, Any]:
    """Return the one object of a list; an empty one if it is something else."""
    return items[0] if isinstance(items, list) and len(items) == 1 and isinstance(items[0], dict) else {}


def _is_of_duplicate(result: object) -> bool:
    """Whether it reports that a repeat was rejected, which says nothing of the first."""
    status = result.get("status") if isinstance(result, dict) else None
    return isinstance(status, dict) and status.get("id") == DUPLICATE_ID


def _receipt(result: object) -> Receipt | None:
    status = result.get("status") if isinstance(result, dict) else None
    if not isinstance(result, dict) or not isinstance(status, dict) or type(status.get("groupId")) is not int:
        return None
    message_id = message_of(result.get("messageId"))
    if message_id is None:
        return None
    state = STATES.get(status["groupId"])
    if status.get("id") == TO_OPERATOR:
        state = ReceiptState.accepted
    error = result.get("error")
    names = [told.get("name") for told in (error, status) if isinstance(told, dict) and told.get("id") != 0]
    code = None if state is ReceiptState.delivered else short_code(next((n for n in names if isinstance(n, str)), None))
    return Receipt(message_id, state or ReceiptState.accepted, code, _instant(result), is_listed=state is not None)


def _reply(result: object) -> Reply | None:
    phone, text = (result.get("from"), result.get("text")) if isinstance(result, dict) else (None, None)
    return Reply(phone, text) if isinstance(phone, str) and isinstance(text, str) else None


def _instant(result: dict[str, Any]) -> datetime | None:
    try:
        return datetime.strptime(str(result.get("doneAt")), "%Y-%m-%dT%H:%M:%S.%f%z")
    except ValueError:
        return None
