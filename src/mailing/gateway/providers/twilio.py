"""Twilio's Messages resource. The base address is https://api.twilio.com.

The codes are those of Twilio's error dictionary, https://www.twilio.com/docs/api/errors.
"""

import base64
import re
from collections.abc import Sequence
from typing import Annotated, Any, Final
from urllib.parse import urlencode

import msgspec

from mailing.gateway.outcome import Answer, Response
from mailing.gateway.providers.parsing import Code, by_code, code_of, parsed
from mailing.gateway.providers.provider import FORM, Call, CredentialsCheck, Outgoing, Provider
from mailing.gateway.providers.receipt import Receipt, ReceiptRequest, ReceiptState
from mailing.gateway.providers.verdicts import Verdict, answer, by_account, by_status
from mailing.settings import Settings

MAX_VALID_S: Final = 36_000
RETRIES: Final = "#rc=5&rp=all"  # without it Twilio reports once, and not again unless it could not connect

ERRORS: Final = by_code(
    (Verdict.refused, "21211 21214 21604 21612 21614 21635"),  # To: invalid, unreachable, a landline
    (Verdict.refused, "21408"),  # the region of To is not enabled
    (Verdict.refused, "21610"),  # replied STOP to Twilio
    (Verdict.refused, "21602 21617 21618 21619"),  # the text: missing, too long, cannot be sent
    (Verdict.throttled, "20429 63017 60728"),  # too many at once, in a second, in an hour
    (Verdict.throttled, "21611 30001 21730"),  # the queue of From, of a messaging service; maintenance
    (Verdict.login, "20003 20006"),
    (Verdict.no_credit, "10001 20005 21472 30002"),  # account not active: lack of funds, or suspended
    (Verdict.setup, "20001 20004 20404"),  # parameters, permission, path
    (Verdict.setup, "20008 21608"),  # test credentials; a trial account: verified numbers only
    (Verdict.setup, "21210 21212 21603 21606 21607 21616 21659 21660 21661 21663 21910"),  # From
    (Verdict.setup, "21657 21709"),  # the name that is the sender
    (Verdict.setup, "21701 21702 21703 21704 21705"),  # messaging service
    (Verdict.setup, "21609 21624"),  # StatusCallback, ValidityPeriod
    (Verdict.setup, "21654 21656 21900 21901"),  # templates, and their registration in India
    (Verdict.setup, "63038"),  # the messages of a day are used up
)
STATES: Final = by_code(
    (ReceiptState.accepted, "accepted scheduled queued sending sent"),
    (ReceiptState.undelivered, "failed undelivered canceled"),
    (ReceiptState.delivered, "delivered read"),
)


class _Created(msgspec.Struct):
    sid: Annotated[str, msgspec.Meta(pattern=r"^(SM|MM)[0-9a-f]{32}\Z")]
    status: str
    error_code: Any = None


class _Error(msgspec.Struct):
    code: Code | None = None


class _Account(msgspec.Struct):
    status: str = ""


class Twilio(Provider):
    name = "twilio"
    required_settings = ("gateway_user", "gateway_token", "sender")
    user_form = "AC[0-9a-f]{32}", "the SID of a Twilio account, such as AC and 32 digits or letters from a to f"
    sends_receipts = True
    reply_fields = ("From", "Body")
    max_text_length = 1600

    def __init__(self, settings: Settings) -> None:
        account = settings.gateway_user or ""
        login = base64.b64encode(f"{account}:{settings.gateway_token or ''}".encode()).decode()
        self.headers = FORM | {"Authorization": f"Basic {login}"}
        self._path = f"/2010-04-01/Accounts/{account}/Messages.json"
        self.credentials_check = CredentialsCheck("GET", f"/2010-04-01/Accounts/{account}.json")

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

    def classify(self, response: Response, message_id: int) -> Answer:  # noqa: ARG002 - it answers no id of ours
        if not response.is_success:
            error = parsed(response.body, _Error)
            if error and str(error.code) in ERRORS and 400 <= response.status <= 499:
                return answer(ERRORS[str(error.code)], response, code=error.code)
            return by_status(response)
        message = parsed(response.body, _Created)
        if message is None or message.status not in STATES:
            return answer(Verdict.ambiguous, response)
        code = code_of(message.error_code)
        if STATES[message.status] is ReceiptState.undelivered:
            return answer(ERRORS.get(str(code), Verdict.refused), response, code=code, provider_id=message.sid)
        return answer(Verdict.accepted, response, provider_id=message.sid)

    def read_credentials_check(self, response: Response) -> Answer:
        account = parsed(response.body, _Account)
        if account is None or response.status != 200:
            return by_account(response)
        verdicts = {"active": Verdict.accepted, "suspended": Verdict.no_credit, "closed": Verdict.no_credit}
        return answer(verdicts.get(account.status, Verdict.ambiguous), response)

    def parse_receipts(self, request: ReceiptRequest) -> Sequence[Receipt] | None:
        fields = request.form()
        status = fields.get("MessageStatus", "")
        if not re.fullmatch(r"[a-z_-]{1,32}", status):
            return None
        return [Receipt.of(STATES.get(status), fields.get("ErrorCode"))]
