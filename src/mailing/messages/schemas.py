"""Messages as they go over the wire."""

from datetime import datetime
from typing import Literal

from msgspec import Struct

from mailing.gateway.outcome import Outcome
from mailing.messages.states import Status


class WaitingFor(Struct):
    """Why an unsent message is not sent yet. `until` is null where nobody can say: a pause, or its turn."""

    reason: Literal["window", "retry", "rate", "breaker", "pause", "start"]
    until: datetime | None


class MessageOut(Struct):
    """`attempts` counts the calls that say something about this message; `last_error` is also the reason of its end."""

    id: int
    mailing_id: int
    client_id: int
    phone: str
    status: Status
    attempts: int
    due_at: datetime
    sent_at: datetime | None
    waiting_for: WaitingFor | None
    last_error: str | None


class AttemptOut(Struct):
    """`duration_ms` is null where the worker was lost during the call."""

    number: int
    started_at: datetime
    duration_ms: int | None
    outcome: Outcome
    http_status: int | None
    code: int | None
    reason: str


class MessageStory(MessageOut):
    """A message with every call made for it, oldest first."""

    text: str
    history: list[AttemptOut]
