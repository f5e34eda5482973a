"""Messages in requests and answers."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from mailing.gateway.outcome import Outcome
from mailing.messages.states import MessageStatus, WaitReason
from mailing.reasons.codes import ReasonCode


class WaitingFor(Struct):
    """Why an unsent message is not sent yet. `until` is null where it is not known: a pause, or its turn."""

    reason: WaitReason
    until: datetime | None


class Delivery(StrEnum):
    """The delivery of a sent message, as its provider has reported it so far."""

    delivered = "delivered"
    undelivered = "undelivered"
    awaited = "awaited"


class ReceiptOut(Struct):
    """The strongest receipt of the provider: delivered, undelivered, or accepted, which is not final.

    `code` is the provider's reason. `at` is its time, or when the receipt came.
    """

    state: Literal["accepted", "undelivered", "delivered"]
    code: str | None
    at: datetime


class MessageOut(Struct):
    """`attempts` counts the calls whose outcome is about this message, not about the gateway.

    `status_reason` is the result of the last attempt, or why the message ended. `reason_code` says it to programs.

    `receipt` is null until the provider has sent one; many send none.
    """

    id: int
    mailing_id: int
    client_id: int
    phone: str
    status: MessageStatus
    attempts: int
    due_at: datetime
    sent_at: datetime | None
    waiting_for: WaitingFor | None
    status_reason: str | None
    reason_code: ReasonCode | None
    receipt: ReceiptOut | None


class AttemptOut(Struct):
    """`duration_ms` is null where the worker was lost during the call. `reason` is empty for an acceptance.

    `provider_id` is the message's id at the provider, for its support.
    """

    number: int
    started_at: datetime
    duration_ms: int | None
    outcome: Outcome
    http_status: int | None
    code: int | None
    reason: str
    reason_code: ReasonCode | None
    provider_id: str | None


ResolvedStatus = Literal["sent", "failed", "pending"]


class Resolution(Struct):
    """What became of an unknown message: it was `sent`, it `failed`, or it is to be sent again (`pending`)."""

    as_: Annotated[ResolvedStatus, Meta(description="sent, failed or pending", examples=["sent"])] = field(name="as")
    note: (
        Annotated[str, Meta(max_length=500, description="up to 500 characters", examples=["the operator's log has it"])]
        | None
    ) = None


class ResolutionOut(Struct):
    """What an operator stated about an unknown message, and when."""

    at: datetime
    by: str
    as_: ResolvedStatus = field(name="as")
    note: str | None


class MessageDetail(MessageOut):
    """A message with its attempts and its resolutions, oldest first.

    `test`: sent by the mailing's `/test`, outside the audience.
    """

    text: str
    test: bool
    history: list[AttemptOut]
    resolutions: list[ResolutionOut]
