"""The interface of a dialect: a provider's API from the provider's side."""

import re
from collections.abc import Mapping
from typing import Final, Literal, Protocol

import msgspec

JSON, FORM, TEXT = "application/json", "application/x-www-form-urlencoded", "text/plain"

State = Literal["accepted", "undelivered", "delivered"]


class Received(msgspec.Struct, frozen=True):
    """One call. `path_id` is the message's id in the path, where there is one."""

    path_id: str
    headers: Mapping[str, str]
    body: bytes


class Order(msgspec.Struct, frozen=True):
    """One message. `reference` is the sender's id as the provider knows it. `receipt_url` is where receipts go, signed
    with `secret` if the provider signs them.
    """

    id: int
    phone: int
    text: str
    reference: str = ""
    receipt_url: str = ""
    secret: str = ""


class Reply(msgspec.Struct, frozen=True):
    status: int
    body: bytes
    content_type: str = JSON


class Report(msgspec.Struct, frozen=True):
    """A request to the sender: a receipt, or a reply of a phone."""

    method: Literal["GET", "POST"]
    url: str
    body: bytes = b""
    content_type: str = FORM


class Dialect(Protocol):
    """`base` is the path of the address to set, `path` where messages come, `check` what tells whether credentials are
    right. `recognises_ids`: a second message with the same reference is a duplicate, whatever the behaviour says.
    """

    base: str = ""
    path: str
    check: tuple[str, str] | None = None
    recognises_ids: bool = False

    def password(self, call: Received) -> str | None: ...
    def read(self, call: Received) -> Order | str: ...
    def answer(self, what: str, order: Order | None, problem: str = "") -> Reply: ...
    def report(self, order: Order, state: State) -> Report | None: ...
    def incoming(self, url: str, *, phone: int, text: str) -> Report: ...


# The status of the answers that say nothing in their body.
HTTP: Final[Mapping[str, int]] = {
    "full": 503,
    "error_500": 500,
    "throttle_429": 429,
    "unauthorized_401": 401,
    "invalid": 400,
    "refuse_400": 400,
}


def phone_of(phone: str) -> int | None:
    number = phone.removeprefix("+")
    return int(number) if re.fullmatch(r"7[0-9]{10}", number, re.ASCII) else None


def id_in(url: str) -> int:
    """Return the message's id in the address for its receipts: these providers know no other. 0 without an address."""
    found = re.search(r"/receipts/([0-9]{1,19})\.", url)
    return int(found[1]) if found else 0
