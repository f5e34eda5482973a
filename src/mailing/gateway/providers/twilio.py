"""Twilio's Messages resource. The base address is https://api.twilio.com."""

import base64
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
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
    short_code,
)

MAX_VALID_S: Final = 36_000
RETRIES: Final = "#rc=5&rp=all"  # without it Twilio reports once, and not again unless it could not connect

ERRORS: Final[Mapping[int, Verdict]] = {
    20003: LOGIN,
    20004: SETUP,
    20005: NO_CREDIT,  # account not active
    20008: SETUP,  # test credentials
    20404: SETUP,
    20429: THROTTLED,
    10001: NO_CREDIT,  # account not active: lack of funds, or suspended
    21211: REFUSED,  # To
    21212: SETUP,  # From
    21214: REFUSED,
    21408: REFUSED,  # region not enabled
    21602: REFUSED,
    21603: SETUP,
    21604: REFUSED,
    21606: SETUP,  # From cannot send SMS
    21607: SETUP,
    21608: SETUP,  # a trial account: verified numbers only
    21609: SETUP,  # StatusCallback
    21610: REFUSED,  # replied STOP to Twilio
    21611: THROTTLED,  # the queue of From is full
    21612: REFUSED,
    21614: REFUSED,
    21617: REFUSED,  # too long
    21635: REFUSED,  # landline
    21654: SETUP,
    21656: SETUP,
    21659: SETUP,
    21660: SETUP,
    21661: SETUP,
    21701: SETUP,  # messaging service
    21703: SETUP,
    21704: SETUP,
    21705: SETUP,
    21730: THROTTLED,  # maintenance
    30001: THROTTLED,
    30002: NO_CREDIT,  # account suspended
    63038: SETUP,  # the account's messages of a day are used up
}
ENDED: Final = frozenset({"failed", "undelivered", "canceled"})
STATES: Final[Mapping[str, ReceiptState]] = {
    **dict.fromkeys(("accepted", "scheduled", "queued", "sending", "sent"), ReceiptState.accepted),
    **dict.fromkeys(ENDED, ReceiptState.undelivered),
    **dict.fromkeys(("delivered", "read"), ReceiptState.delivered),
}


class Twilio:
    name = "twilio"
    repeat_is_safe = False  # it knows no reference of ours
    sends_receipts = True
    receipts_account_wide = False
    receipt_answer = b""
    reply_query = ""
    max_text_length = 1600

    def __init__(self, account: str, token: str) -> None:
        """Take the account's SID, such as AC0123…, and its token."""
        self._path = f"/2010-04-01/Accounts/{account}/Messages.json"
        self.credentials_check = CredentialsCheck("GET", f"/2010-04-01/Accounts/{account}.json")
        self.headers: Mapping[str, str] = {
            "Accept": "application/json",
            "Content-Type": "application/x-www-form-urlencoded",
            "Authorization": f"Basic {base64.b64encode(f'{account}:{token}'.encode()).decode()}",
        }

    def encode(self, message: Outgoing) -> Call:
        fields = {
            "To": f"+{message.phone}",
            "MessagingServiceSid" if re.fullmatch("MG[0-9a-f]{32}", message.sender) else "From": message.sender,
            "Body": message.text,
            "ValidityPeriod": str(min(message.valid_for_s, MAX_VALID_S)),
        }
        if message.receipt_url:
            fields["StatusCallback"] = message.receipt_url + RETRIES
        return Call(self._path, urlencode(fields).encode())

    def classify(
        self,
        status: int,
        retry_after: str | None,
        body: bytes,
        *,
        message_id: int,  # noqa: ARG002 - it answers no id of ours
        now: datetime,
    ) -> Answer:
        found = members(body)
        if not 200 <= status <= 299:
            code = found.get("code")
            if type(code) is int and code in ERRORS and 400 <= status <= 499:
                return answer(ERRORS[code], status, error=code, retry_after=retry_after, now=now)
            return by_status(status, retry_after, now)
        sid, word, code = found.get("sid"), found.get("status"), found.get("error_code")
        if not isinstance(sid, str) or not re.fullmatch("(SM|MM)[0-9a-f]{32}", sid) or word not in STATES:
            return answer(AMBIGUOUS, status)
        if word in ENDED:
            verdict = ERRORS.get(code, REFUSED) if type(code) is int else REFUSED
            return answer(verdict, status, error=code, provider_id=sid)
        return answer(ACCEPTED, status, provider_id=sid)

    def read_credentials_check(self, status: int, body: bytes) -> Answer:
        word = members(body).get("status") if status == 200 else None
        if word in ("suspended", "closed"):
            return answer(NO_CREDIT, status)
        return answer(ACCEPTED, status) if word == "active" else by_account(status)

    def parse_receipts(self, request: ReceiptRequest) -> Sequence[Receipt] | None:
        fields = form(request.body)
        word = fields.get("MessageStatus", "")
        if not re.fullmatch(r"[a-z_-]{1,32}", word):
            return None
        state = STATES.get(word)
        code = None if state is ReceiptState.delivered else short_code(fields.get("ErrorCode"))
        return [Receipt(None, state or ReceiptState.accepted, code, None, is_listed=state is not None)]

    def parse_replies(self, request: ReceiptRequest) -> Sequence[Reply] | None:
        fields = form(request.body)
        return [Reply(fields["From"], fields.get("Body", ""))] if fields.get("From") else None
