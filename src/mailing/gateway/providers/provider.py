"""The interface of a provider: a few constants and pure functions, without clock, network or framework."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Final, Literal

import msgspec

from mailing.gateway.outcome import Answer, Response
from mailing.gateway.providers.receipt import Receipt, ReceiptRequest, Reply
from mailing.gateway.providers.verdicts import by_account
from mailing.settings import Settings

FORM: Final = {"Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded"}
JSON: Final = {"Accept": "application/json", "Content-Type": "application/json"}


class Outgoing(msgspec.Struct, frozen=True):
    """One message to send. `valid_for_s` is the time to the end of its send window: after it nothing may be delivered.

    `reference` is the message's id at the provider. No other installation uses it. A message that was refused and is
    sent again gets another one. `receipt_url` is where the provider reports what became of the message, or None.
    """

    id: int
    phone: str
    text: str
    sender: str
    receipt_url: str | None
    valid_for_s: int
    reference: str = ""


class Call(msgspec.Struct, frozen=True):
    """One POST. `path` is quoted and appended to the gateway's address. `headers` are the lines that differ between
    messages, each ended by CR LF.
    """

    path: str
    body: bytes
    headers: bytes = b""


class CredentialsCheck(msgspec.Struct, frozen=True):
    """A call that sends no message and needs valid credentials."""

    method: Literal["GET", "POST"]
    path: str
    body: bytes = b""


class Provider(ABC):
    """Defaults that fit most providers; a provider's module states what differs.

    `repeat_is_safe`: a message sent twice under one id is delivered once, by the provider's own documentation. Without
    `required_settings` no call can be made. `user_form` is what MAILING_GATEWAY_USER must be: a pattern, and the same
    in words.

    `headers` go with each call. `receipts_account_wide`: all receipts come to one address, and each names its message;
    otherwise each message has an address of its own. `receipt_answer` is the body that the provider expects.
    `reply_query` is appended to the address for replies, where the provider fills in what it sends. `reply_fields` are
    the names of a reply's phone and text, if replies are forms. `max_text_length` is in characters; a longer text is
    refused without a call.
    """

    name: str
    required_settings: ClassVar[tuple[str, ...]] = ()
    user_form: ClassVar[tuple[str, str] | None] = None
    repeat_is_safe = False
    sends_receipts = False
    receipts_account_wide = False
    receipt_answer = b""
    reply_query = ""
    reply_fields: tuple[str, str] | None = None
    max_text_length: int | None = None
    headers: Mapping[str, str]
    credentials_check: CredentialsCheck | None = None

    @abstractmethod
    def __init__(self, settings: Settings) -> None:
        """Take the provider's settings. Without those in `required_settings` it still understands receipts."""

    @abstractmethod
    def encode(self, message: Outgoing) -> Call: ...

    @abstractmethod
    def classify(self, response: Response, message_id: int) -> Answer:
        """Classify the response to a message's call. Raises nothing, for any status and any bytes."""

    def read_credentials_check(self, response: Response) -> Answer:
        """Classify the response to `credentials_check`: accepted, configuration, or ambiguous if it says neither."""
        return by_account(response)

    def parse_receipts(self, request: ReceiptRequest) -> Sequence[Receipt] | None:  # noqa: B027 - it may send none
        """Return what the request reports, or None if it is malformed. Raise Forged if its signature is wrong."""

    def parse_replies(self, request: ReceiptRequest) -> Sequence[Reply] | None:
        """Return what phones sent, or None if the request is malformed."""
        if self.reply_fields is None:
            return None
        phone, text = map(request.form().get, self.reply_fields)
        return [Reply(phone, text or "")] if phone else None
