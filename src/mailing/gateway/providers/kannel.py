"""Kannel's smsbox: the door to SMPP, CIMD, EMI and modems. The base address is smsbox's, such as http://host:13013.

Its answers are words. What they mean was read in bearerbox 1.4.5: a message that is answered with a temporal failure
is dropped there.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final
from urllib.parse import parse_qs

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
    LOGIN,
    REFUSED,
    SETUP,
    THROTTLED,
    Verdict,
    answer,
    by_status,
    short_code,
)
from mailing.gsm7 import is_gsm7

PATH: Final = "/cgi-bin/sendsms"
DELIVERED, NOT_DELIVERED, REFUSED_BY_SMSC = 1, 2, 16
MASK: Final = DELIVERED + NOT_DELIVERED + REFUSED_BY_SMSC  # one receipt for each message; with 31 there are two or more

# How a body begins, and what it means. `0` and `3` come with 202: sent on, or stored until the SMSC is back.
ANSWERS: Final[Mapping[str, Verdict]] = {
    "0: ": ACCEPTED,
    "3: ": ACCEPTED,
    "Authorization failed": LOGIN,
    "Sender missing": SETUP,
    "Invalid content-type": SETUP,
    "DLR-": SETUP,
    "Not routable": REFUSED,
    "Number(s)": REFUSED,
    "Missing receiver": REFUSED,
    "Empty receiver": REFUSED,
    "Charset or body": REFUSED,
    "Temporal failure": THROTTLED,
}
STATES: Final[Mapping[int, ReceiptState]] = {
    DELIVERED: ReceiptState.delivered,
    NOT_DELIVERED: ReceiptState.undelivered,
    REFUSED_BY_SMSC: ReceiptState.undelivered,
    4: ReceiptState.accepted,
    8: ReceiptState.accepted,
    32: ReceiptState.accepted,
}
# The SMSC's words in a receipt may hold the beginning of the text, so only what follows `stat:` and `err:` is taken.
_SMPP: Final = re.compile(r"stat:(\w{1,12})(?:\s+err:(\w{1,12}))?", re.ASCII)
_NACK: Final = re.compile(r"NACK/\w{1,12}", re.ASCII)


class Kannel:
    name = "kannel"
    repeat_is_safe = False  # the same call again is sent again
    sends_receipts = True
    receipts_account_wide = False
    receipt_answer = b""
    reply_query = "?from=%p&text=%a"
    max_text_length = None  # `max-messages` of the sendsms-user; it cuts off what is longer
    credentials_check = CredentialsCheck("POST", PATH)  # without a receiver

    def __init__(self, user: str, password: str, sender: str) -> None:
        self.headers: Mapping[str, str] = {
            "Accept": "text/plain",
            "Content-Type": "text/plain; charset=UTF-8",
            "X-Kannel-Username": user,
            "X-Kannel-Password": password,
            **({"X-Kannel-From": sender} if sender else {}),
        }

    def encode(self, message: Outgoing) -> Call:
        """Encode a message. The validity is in minutes, at least one: delivery may be a minute late."""
        lines = [
            f"X-Kannel-To: +{message.phone}",
            f"X-Kannel-Coding: {0 if is_gsm7(message.text) else 2}",
            f"X-Kannel-Validity: {max(1, message.valid_for_s // 60)}",
        ]
        if message.receipt_url:
            url = message.receipt_url.replace("%", "%%") + "?state=%d&reply=%A"
            lines += [f"X-Kannel-DLR-Mask: {MASK}", f"X-Kannel-DLR-Url: {url}"]
        return Call(PATH, message.text.encode(), "".join(f"{line}\r\n" for line in lines).encode())

    def classify(
        self,
        status: int,
        retry_after: str | None,
        body: bytes,
        *,
        message_id: int,  # noqa: ARG002 - it answers no id
        now: datetime,
    ) -> Answer:
        words = body[:64].decode("ascii", "replace")
        verdict = next((verdict for begin, verdict in ANSWERS.items() if words.startswith(begin)), None)
        if verdict is None or (verdict is ACCEPTED) is not (status == 202) or not 202 <= status <= 599:
            return answer(AMBIGUOUS, status) if status == 202 else by_status(status, retry_after, now)
        code = int(words[0]) if verdict is ACCEPTED else None
        return answer(verdict, status, error=code, retry_after=retry_after, now=now)

    def read_credentials_check(self, status: int, body: bytes) -> Answer:
        """Read the answer to a call without a receiver, which is missed after the account was checked."""
        words = body[:64].decode("ascii", "replace")
        if status == 403 and words.startswith("Authorization failed"):
            return answer(LOGIN, status)
        return answer(ACCEPTED if status == 400 and words.startswith("Missing receiver") else AMBIGUOUS, status)

    def parse_receipts(self, request: ReceiptRequest) -> Sequence[Receipt] | None:
        fields = parse_qs(request.query, keep_blank_values=True)
        word = fields.get("state", [""])[0]
        if not re.fullmatch(r"\d{1,9}", word, re.ASCII):
            return None
        state = STATES.get(int(word))
        code = None if state is ReceiptState.delivered else _reason(fields.get("reply", [""])[0])
        return [Receipt(None, state or ReceiptState.accepted, code, None, is_listed=state is not None)]

    def parse_replies(self, request: ReceiptRequest) -> Sequence[Reply] | None:
        fields = parse_qs(request.query, keep_blank_values=True)
        phone, text = fields.get("from", [""])[0], fields.get("text", [""])[0]
        return [Reply(phone, text)] if phone else None


def _reason(words: str) -> str | None:
    if found := _SMPP.search(words):
        return short_code(" ".join(part for part in found.groups() if part))
    found = _NACK.match(words)
    return found[0] if found else None
