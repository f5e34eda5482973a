"""What a provider is to this product: a few constants and pure functions, without clock, network or framework."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import IntEnum
from typing import Literal, Protocol

import msgspec

from mailing.gateway.outcome import Answer


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


class ReceiptState(IntEnum):
    """The stronger state wins: a phone that has the message has it, whatever was reported before or after."""

    accepted = 1
    undelivered = 2
    delivered = 3


class Receipt(msgspec.Struct, frozen=True):
    """What a provider reports of one message. `message_id` None: the id is in the address.

    `code` is the provider's reason. `at` is the provider's time. `is_listed` False: the status word is not in the
    provider's table, so that it proves only that the provider has the message.
    """

    message_id: int | None
    state: ReceiptState
    code: str | None
    at: datetime | None
    is_listed: bool = True


class ReceiptRequest(msgspec.Struct, frozen=True):
    """A request of the provider to one of our addresses: a receipt or a reply. `query` is without the question mark."""

    query: str
    content_type: str
    body: bytes


class Reply(msgspec.Struct, frozen=True):
    """A message that a phone sent. `phone` is as the provider writes it."""

    phone: str
    text: str


class Provider(Protocol):
    """`repeat_is_safe`: a message sent twice under one id is delivered once, by the provider's own documentation.

    `headers` go with each call. `receipts_account_wide`: all receipts come to one address, and each names its message;
    otherwise each message has an address of its own. `receipt_answer` is the body that the provider expects.
    `reply_query` is appended to the address for replies, where the provider fills in what it sends.
    `max_text_length` is in characters; a longer text is refused without a call.
    """

    @property
    def name(self) -> str: ...
    @property
    def repeat_is_safe(self) -> bool: ...
    @property
    def sends_receipts(self) -> bool: ...
    @property
    def receipts_account_wide(self) -> bool: ...
    @property
    def reply_query(self) -> str: ...
    @property
    def receipt_answer(self) -> bytes: ...
    @property
    def credentials_check(self) -> CredentialsCheck | None: ...
    @property
    def max_text_length(self) -> int | None: ...
    @property
    def headers(self) -> Mapping[str, str]: ...

    def encode(self, message: Outgoing) -> Call: ...

    def classify(self, status: int, retry_after: str | None, body: bytes, *, message_id: int, now: datetime) -> Answer:
        """Classify a complete answer. Raises nothing, for any status and any bytes; `now` is aware."""
        ...

    def read_credentials_check(self, status: int, body: bytes) -> Answer:
        """Classify the answer to `credentials_check`: accepted, configuration, or ambiguous if it says neither."""
        ...

    def parse_receipts(self, request: ReceiptRequest) -> Sequence[Receipt] | None:
        """Return what the request reports, or None if it is malformed or not signed as it must be."""
        ...

    def parse_replies(self, request: ReceiptRequest) -> Sequence[Reply] | None:
        """Return what phones sent, or None if the request is malformed."""
        ...
