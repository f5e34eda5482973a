"""SMSC.ru. The base address is https://smsc.ru. It answers errors with HTTP 200."""

import hashlib
import hmac
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlencode

import msgspec

from mailing.gateway.outcome import Answer, Response
from mailing.gateway.providers.parsing import Code, by_code, message_of, parsed
from mailing.gateway.providers.provider import FORM, Call, CredentialsCheck, Outgoing, Provider
from mailing.gateway.providers.receipt import Forged, Receipt, ReceiptRequest, ReceiptState
from mailing.gateway.providers.verdicts import Verdict, answer, by_account, by_status
from mailing.settings import Settings

MAX_VALID_S: Final = 24 * 3600
NOT_FOUND: Final = "-3"

ERRORS: Final = by_code(
    (Verdict.setup, "1 5"),  # parameters, date
    (Verdict.login, "2"),  # or an address that the account does not allow
    (Verdict.no_credit, "3"),
    (Verdict.throttled, "4"),  # our address is blocked for a while
    (Verdict.refused, "6"),  # forbidden, by text or sender
    (Verdict.refused, "7 8"),  # phone; cannot be delivered to this phone
    (Verdict.throttled, "9"),  # the same request within a minute, or 15 at once
)
STATES: Final = by_code(
    (ReceiptState.accepted, "-2 -1 0"),  # stopped in the account, and may go on; waits; at the operator
    (ReceiptState.delivered, "1 2 4"),  # read; its link was opened
    (ReceiptState.undelivered, "3 20 25"),  # expired, impossible, unreachable
    (ReceiptState.undelivered, "22 23 24"),  # wrong number, forbidden, no money
)


class _Body(msgspec.Struct):
    id: Any = None
    cnt: int | None = None
    error: Any = None
    error_code: Code | None = None
    balance: Any = None


class Smsc(Provider):
    name = "smsc"
    required_settings = ("gateway_token",)
    sends_receipts = True
    receipts_account_wide = True
    reply_fields = ("phone", "mes")
    max_text_length = 1000
    headers = FORM

    def __init__(self, settings: Settings) -> None:
        """Take the token as the password of a user, or as an API key."""
        user, token = settings.gateway_user, settings.gateway_token or ""
        self._login = {"login": user, "psw": token} if user else {"apikey": token}
        balance = urlencode({**self._login, "fmt": "3"}).encode()
        self.credentials_check = CredentialsCheck("POST", "/sys/balance.php", balance)

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
        return Call("/sys/send.php", urlencode(fields).encode())

    def classify(self, response: Response, message_id: int) -> Answer:
        if not response.is_success:
            return by_status(response)
        body = parsed(response.body, _Body) or _Body()
        if body.error_code is not None:
            return answer(ERRORS.get(str(body.error_code), Verdict.ambiguous), response, code=body.error_code)
        if body.error is not None or body.cnt is None or message_of(body.id) != message_id:
            return answer(Verdict.ambiguous, response)
        return answer(Verdict.accepted, response, provider_id=str(body.id))

    def read_credentials_check(self, response: Response) -> Answer:
        body = parsed(response.body, _Body) if response.status == 200 else None
        if body and body.error_code is not None:
            return answer(Verdict.login if body.error_code == 2 else Verdict.ambiguous, response, code=body.error_code)
        return answer(Verdict.accepted, response) if body and body.balance is not None else by_account(response)

    def parse_receipts(self, request: ReceiptRequest) -> Sequence[Receipt] | None:
        """All receipts come to one address, so each must be signed with the secret word of the handler."""
        fields = request.form()
        reference, status = fields.get("id", ""), fields.get("status", "")
        signed = f"{reference}:{fields.get('phone', '')}:{status}:{request.secret}"
        digest = hashlib.md5(signed.encode(), usedforsecurity=False).hexdigest()  # what the provider offers
        if not request.secret or not hmac.compare_digest(fields.get("md5", "").lower().encode(), digest.encode()):
            raise Forged
        if not re.fullmatch(r"-?\d{1,4}", status, re.ASCII):
            return None
        message_id = message_of(reference)
        if message_id is None or status == NOT_FOUND:
            return []  # another program's message, or a status that proves nothing
        at = _instant(fields.get("ts", ""))
        return [Receipt.of(STATES.get(status), fields.get("err") or status, message_id=message_id, at=at)]


def _instant(seconds: str) -> datetime | None:
    return datetime.fromtimestamp(int(seconds), UTC) if re.fullmatch(r"\d{9,10}", seconds, re.ASCII) else None
