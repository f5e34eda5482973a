"""The Probe server: one operation, no receipts, and no word on whether a repeated id is recognised."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from mailing.gateway import outcome
from mailing.gateway.outcome import Answer, Outcome
from mailing.gateway.providers.provider import Call, Outgoing, Receipt, ReceiptRequest, Reply

_encode = msgspec.json.Encoder().encode


class Probe:
    name = "probe"
    repeat_is_safe = False  # not documented; a repeat is the customer's wish all the same
    sends_receipts = False
    receipts_account_wide = False
    receipt_answer = b""
    reply_query = ""
    max_text_length = None
    credentials_check = None

    def __init__(self, token: str | None) -> None:
        """Raise ValueError for a token that no call could be made with."""
        self.headers: Mapping[str, str] = _headers(token)

    def encode(self, message: Outgoing) -> Call:
        body = _encode({"id": message.id, "phone": int(message.phone), "text": message.text})
        return Call(f"/send/{message.id}", body)

    def classify(self, status: int, retry_after: str | None, body: bytes, *, message_id: int, now: datetime) -> Answer:
        return outcome.classify(status, retry_after, body, message_id=message_id, now=now)

    def read_credentials_check(self, status: int, body: bytes) -> Answer:  # noqa: ARG002 - there is none
        return Answer(Outcome.ambiguous, status)

    def parse_receipts(self, request: ReceiptRequest) -> Sequence[Receipt] | None:  # noqa: ARG002 - it sends none
        return None

    def parse_replies(self, request: ReceiptRequest) -> Sequence[Reply] | None:  # noqa: ARG002 - it sends none
        return None


def _headers(token: str | None) -> dict[str, str]:
    headers = {"Accept": "application/json", "Content-Type": "application/json"}
    if token is None:
        return headers
    if not re.fullmatch(r"[!-~]+", token):
        raise ValueError("the gateway's token must be visible ASCII characters without spaces")
    return headers | {"Authorization": f"Bearer {token}"}
