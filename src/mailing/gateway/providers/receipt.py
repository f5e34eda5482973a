"""Requests that a provider makes on its own: receipts of messages, and replies from phones."""

from collections.abc import Mapping
from datetime import datetime
from enum import IntEnum
from typing import Self

import msgspec

from mailing.gateway.providers.parsing import form

MAX_CODE_LENGTH = 32


class ReceiptState(IntEnum):
    """The stronger state wins: a phone that has the message has it, whatever was reported before or after."""

    accepted = 1
    undelivered = 2
    delivered = 3


class Forged(Exception):
    """A request that is not the provider's: we did not make its address, or its signature is wrong or missing."""


class Receipt(msgspec.Struct, frozen=True):
    """What a provider reports of one message, made by `of`. `message_id` None: the id is in the address.

    `code` is the provider's reason. `at` is the provider's time. `is_listed` False: the status word is not in the
    provider's table, so that it proves only that the provider has the message.
    """

    message_id: int | None
    state: ReceiptState
    code: str | None
    at: datetime | None
    is_listed: bool = True

    @classmethod
    def of(
        cls, state: ReceiptState | None, code: str | None, *, message_id: int | None = None, at: datetime | None = None
    ) -> Self:
        """Return the receipt of a status. `state` None: the provider's table does not list it.

        A delivery has no reason. Of `code` only printable ASCII is kept, as the table requires, and no time that the
        database cannot compare with ours; it decides whether the time is plausible.
        """
        reason = None if state is ReceiptState.delivered else _printable(code or "")
        time = at if at and at.tzinfo and 2000 < at.year < 2100 else None
        return cls(message_id, state or ReceiptState.accepted, reason, time, is_listed=state is not None)


def _printable(code: str) -> str | None:
    kept = "".join(sign for sign in code[: 4 * MAX_CODE_LENGTH] if " " <= sign <= "~").strip()
    return kept[:MAX_CODE_LENGTH].strip() or None


class ReceiptRequest(msgspec.Struct, frozen=True):
    """A request of the provider to one of our addresses: a receipt or a reply. `query` is without the question mark.

    `secret` is the word that the provider must have signed it with, where receipts are account-wide.
    """

    query: str
    body: bytes
    secret: str = ""

    def form(self) -> Mapping[str, str]:
        """Return the fields of a form, by POST or by GET."""
        return form(self.body or self.query.encode())


class Reply(msgspec.Struct, frozen=True):
    """A message that a phone sent. `phone` is as the provider writes it."""

    phone: str
    text: str
