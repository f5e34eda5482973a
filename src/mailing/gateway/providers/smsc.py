"""SMSC.ru. The base address is https://smsc.ru. It answers errors with HTTP 200."""

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlencode

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
    NO_CREDIT,
    REFUSED,
    SETUP,
    THROTTLED,
    Verdict,
    answer,
    by_account,
    by_status,
    form,
    members,
    message_of,
    short_code,
)

PATH: Final = "/sys/send.php"
MAX_VALID_S: Final = 24 * 3600
NOT_FOUND: Final = -3

ERRORS: Final[Mapping[int, Verdict]] = {
    1: SETUP,  # parameters
    2: LOGIN,  # or an address that the account does not allow
    3: NO_CREDIT,
    4: THROTTLED,  # our address is blocked for a while
    5: REFUSED,  # date
    6: REFUSED,  # forbidden, by text or sender
    7: REFUSED,  # phone
    8: REFUSED,  # cannot be delivered to this phone
    9: THROTTLED,  # the same request within a minute, or 15 at once
}
STATES: Final[Mapping[int, ReceiptState]] = {
    -1: ReceiptState.accepted,  # waits
    0: ReceiptState.accepted,  # at the operator
    1: ReceiptState.delivered,
    2: ReceiptState.delivered,  # read
    3: ReceiptState.undelivered,  # expired
    4: ReceiptState.delivered,  # its link was opened
    20: ReceiptState.undelivered,  # impossible
    22: ReceiptState.undelivered,  # wrong number
    23: ReceiptState.undelivered,  # forbidden
    24: ReceiptState.undelivered,  # no money
    25: ReceiptState.undelivered,  # unreachable
}


class Smsc:
    name = "smsc"
    repeat_is_safe = False  # an id may be used twice
    sends_receipts = True
    receipts_account_wide = True
    receipt_answer = b""
    reply_query = ""
    max_text_length = 1000

    def __init__(self, user: str | None, token: str) -> None:
        """`token` is the password of `user`, or an API key. It is also the secret word of the account's handler."""
        self._login = {"login": user, "psw": token} if user else {"apikey": token}
        self._secret = token
        self.credentials_check = CredentialsCheck(
            "POST", "/sys/balance.php", urlencode({**self._login, "fmt": "3"}).encode()
        )
        self.headers: Mapping[str, str] = {
            "Accept": "application/json",
            "Content-Type": "application/x-www-form-urlencoded",
        }

    def encode(self, message: Outgoing) -> Call:
        minutes = max(1, min(message.valid_for_s, MAX_VALID_S) // 60)
        fields = {
            **self._login,
            "phones": f"+{message.phone}",  # without the sign a number would be "corrected"
            "mes": message.text,
            "id": message.reference,
            "valid": f"{minutes // 60:02}:{minutes % 60:02}",
            "charset": "utf-8",
            "fmt": "3",
            **({"sender": message.sender} if message.sender else {}),
        }
        return Call(PATH, urlencode(fields).encode())

    def classify(self, status: int, retry_after: str | None, body: bytes, *, message_id: int, now: datetime) -> Answer:
        if not 200 <= status <= 299:
            return by_status(status, retry_after, now)
        found = members(body)
        code, reference = found.get("error_code"), found.get("id")
        if type(code) is int:
            return answer(ERRORS.get(code, AMBIGUOUS), status, error=code, retry_after=retry_after, now=now)
        if "error" in found or message_of(reference) != message_id or type(found.get("cnt")) is not int:
            return answer(AMBIGUOUS, status)
        return answer(ACCEPTED, status, provider_id=reference)

    def read_credentials_check(self, status: int, body: bytes) -> Answer:
        found = members(body) if status == 200 else {}
        code = found.get("error_code")
        if type(code) is int:
            return answer(LOGIN if code == 2 else AMBIGUOUS, status, error=code)
        return answer(ACCEPTED, status) if "balance" in found else by_account(status)

    def parse_receipts(self, request: ReceiptRequest) -> Sequence[Receipt] | None:
        """All receipts come to one address, so each must be signed with the account's secret word."""
        fields = form(request.body)
        reference, word = fields.get("id", ""), fields.get("status", "")
        signed = f"{reference}:{fields.get('phone', '')}:{word}:{self._secret}"
        digest = hashlib.md5(signed.encode(), usedforsecurity=False).hexdigest()  # what the provider offers
        if not self._secret or not hmac.compare_digest(fields.get("md5", "").lower().encode(), digest.encode()):
            return None
        if not re.fullmatch(r"-?\d{1,4}", word, re.ASCII):
            return None
        message_id = message_of(reference)
        if message_id is None or int(word) == NOT_FOUND:
            return []  # another program's message, or a status that proves nothing
        state = STATES.get(int(word))
        code = None if state is ReceiptState.delivered else short_code(fields.get("err") or word)
        at = _instant(fields.get("ts", ""))
        return [Receipt(message_id, state or ReceiptState.accepted, code, at, is_listed=state is not None)]

    def parse_replies(self, request: ReceiptRequest) -> Sequence[Reply] | None:
        fields = form(request.body)
        return [Reply(fields["phone"], fields.get("mes", ""))] if fields.get("phone") else None


def _instant(seconds: str) -> datetime | None:
    return datetime.fromtimestamp(int(seconds), UTC) if re.fullmatch(r"\d{9,10}", seconds, re.ASCII) else None
