"""Kannel's smsbox: the door to SMPP, CIMD, EMI and modems. The base address is smsbox's, such as http://host:13013.

Its answers are words, whose meaning was taken from the source of bearerbox 1.4.5: a message answered with a temporal
failure is dropped.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import unquote_plus

from mailing.gateway.outcome import Answer, Response
from mailing.gateway.providers.parsing import by_code
from mailing.gateway.providers.provider import Call, CredentialsCheck, Outgoing, Provider
from mailing.gateway.providers.receipt import Receipt, ReceiptRequest, ReceiptState
from mailing.gateway.providers.verdicts import Verdict, answer, by_status
from mailing.gsm7 import is_gsm7
from mailing.settings import Settings

PATH: Final = "/cgi-bin/sendsms"

# How a body begins, and what it means. `0` and `3` come with 202: sent on, or stored until the SMSC is back.
ANSWERS: Final[Mapping[str, Verdict]] = {
    "0: ": Verdict.accepted,
    "3: ": Verdict.accepted,
    "Authorization failed": Verdict.login,
    "Sender missing": Verdict.setup,
    "Invalid content-type": Verdict.setup,
    "DLR-": Verdict.setup,
    "Not routable": Verdict.refused,
    "Number(s)": Verdict.refused,
    "Missing receiver": Verdict.refused,
    "Empty receiver": Verdict.refused,
    "Charset or body": Verdict.refused,
    "Temporal failure": Verdict.throttled,
}
MASK: Final = 1 + 2 + 16  # the final states: one receipt for each message; with 31 there are two or more
STATES: Final = by_code(
    (ReceiptState.delivered, "1"),
    (ReceiptState.undelivered, "2 16"),  # not delivered, refused by the SMSC
    (ReceiptState.accepted, "4 8 32"),
)
RECEIPT_QUERY: Final = "?state=%d&reply=%A"
_RECEIPT: Final = re.compile(r"state=(?P<state>\d{1,9})(?:&reply=(?P<reply>[^&]*))?", re.ASCII)
# The SMSC's words in a receipt may hold the beginning of the text, so only what follows `stat:` and `err:` is taken.
_SMPP: Final = re.compile(r"stat:(\w{1,12})(?:\s+err:(\w{1,12}))?", re.ASCII)
_NACK: Final = re.compile(r"NACK/\w{1,12}", re.ASCII)


class Kannel(Provider):
    name = "kannel"
    required_settings = ("gateway_user", "gateway_token")
    sends_receipts = True
    reply_query = "?from=%p&text=%a"
    reply_fields = ("from", "text")
    credentials_check = CredentialsCheck("POST", PATH)  # without a receiver

    def __init__(self, settings: Settings) -> None:
        self.headers = {
            "Accept": "text/plain",
            "Content-Type": "text/plain; charset=UTF-8",
            "X-Kannel-Username": settings.gateway_user or "",
            "X-Kannel-Password": settings.gateway_token or "",
            **({"X-Kannel-From": settings.sender} if settings.sender else {}),
        }

    def encode(self, message: Outgoing) -> Call:
        """Encode a message. The validity is in minutes, at least one: delivery may be a minute late."""
        lines = [
            f"X-Kannel-To: +{message.phone}",
            f"X-Kannel-Coding: {0 if is_gsm7(message.text) else 2}",
            f"X-Kannel-Validity: {max(1, message.valid_for_s // 60)}",
        ]
        if message.receipt_url:
            url = message.receipt_url.replace("%", "%%") + RECEIPT_QUERY
            lines += [f"X-Kannel-DLR-Mask: {MASK}", f"X-Kannel-DLR-Url: {url}"]
        return Call(PATH, message.text.encode(), "".join(f"{line}\r\n" for line in lines).encode())

    def classify(self, response: Response, message_id: int) -> Answer:  # noqa: ARG002 - it answers no id
        words = _words(response)
        verdict = next((verdict for begin, verdict in ANSWERS.items() if words.startswith(begin)), None)
        if verdict is Verdict.accepted and response.status == 202:
            return answer(verdict, response, code=int(words[0]))
        if verdict is None or verdict is Verdict.accepted or response.status < 400:
            return by_status(response)
        return answer(verdict, response)

    def read_credentials_check(self, response: Response) -> Answer:
        """Read the answer to a call without a receiver, which is missed after the account was checked."""
        if response.status == 403 and _words(response).startswith("Authorization failed"):
            return answer(Verdict.login, response)
        is_right = response.status == 400 and _words(response).startswith("Missing receiver")
        return answer(Verdict.accepted if is_right else Verdict.ambiguous, response)

    def parse_receipts(self, request: ReceiptRequest) -> Sequence[Receipt] | None:
        given = _RECEIPT.fullmatch(request.query)
        if not given:
            return None
        state = STATES.get(given["state"])
        is_explained = state is not ReceiptState.delivered
        return [Receipt.of(state, _reason(unquote_plus(given["reply"] or "")) if is_explained else None)]


def _words(response: Response) -> str:
    return response.body[:64].decode("ascii", "replace")


def _reason(words: str) -> str | None:
    if found := _SMPP.search(words):
        return " ".join(part for part in found.groups() if part)
    found = _NACK.match(words)
    return found[0] if found else None
