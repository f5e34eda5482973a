"""What the offline checker is told: the gateway's ledger, the database, the API, and what people and faults did.

Times are seconds since 1970 by the machine's one clock, which the gateway, PostgreSQL and the harness share.
"""

from enum import StrEnum
from math import inf
from typing import Any, Protocol, TypeVar

from msgspec import Struct, field

from mailing.mailings.window import LocalWindow


class Call(Struct, kw_only=True):
    """One whole request at the gateway. `how` it ended, and when, is None where the gateway was lost before."""

    id: int
    phone: str
    text: str
    began_at: float
    accepted_at: float | None = None
    ended_at: float | None = None
    how: str | None = None


class Message(Struct, kw_only=True):
    id: int
    mailing_id: int
    client_id: int
    status: str
    attempt_no: int
    ambiguous: bool
    finished_at: float | None = None


class Attempt(Struct, kw_only=True):
    """`duration_s` is None where the worker was lost; `started_at` is then when the sweep found out."""

    message_id: int
    number: int
    started_at: float
    outcome: str
    duration_s: float | None = None
    http_status: int | None = None

    @property
    def swept(self) -> bool:
        return self.duration_s is None

    @property
    def reached_nobody(self) -> bool:
        """The product says that not a byte was written."""
        return self.outcome == "not_sent" and self.http_status is None


class Terms(Struct, kw_only=True):
    """A mailing as somebody wanted it from this moment on."""

    starts_at: float
    ends_at: float
    tags: frozenset[str] = frozenset()
    operator_codes: frozenset[str] = frozenset()
    window: LocalWindow | None = None
    asked_at: float = -inf
    answered_at: float = -inf

    def select(self, client: "Client") -> bool:
        return (
            not client.opted_out
            and (not self.tags or client.tag in self.tags)
            and (not self.operator_codes or client.operator_code in self.operator_codes)
        )


class Mailing(Struct, kw_only=True):
    """`planned`: its newest plan is complete. `terms` and `texts` are all there ever were, oldest first."""

    id: int
    status: str
    planned: bool
    audience_upto: int
    terms: list[Terms]
    texts: frozenset[str]
    is_test: bool = False


class Client(Struct, kw_only=True):
    """One version of a client; a change is another one with the same id."""

    id: int
    phone: str
    operator_code: str
    timezone: str
    tag: str | None = None
    opted_out: bool = False
    asked_at: float = -inf
    answered_at: float = -inf


class Kind(StrEnum):
    created = "created"
    edited = "edited"
    paused = "paused"
    resumed = "resumed"
    cancelled = "cancelled"
    deleted = "deleted"
    opted_out = "opted_out"
    opted_in = "opted_in"
    stopped = "stopped"
    started = "started"
    resolved = "resolved"


class Action(Struct, kw_only=True):
    """What somebody asked the API for, once it had answered; one mailing, one client, or all sending.

    `details` of `created` and `edited` are the answer: a mailing or a client. `asked_at` matters where calls become
    allowed: they may begin before the answer is there.
    """

    at_answered: float
    kind: Kind
    mailing_id: int | None = None
    client_id: int | None = None
    message_id: int | None = None
    details: dict[str, Any] = field(default_factory=dict)
    asked_at: float | None = None

    @property
    def asked(self) -> float:
        return self.at_answered if self.asked_at is None else self.asked_at


class Kill(Struct):
    pid: int
    at: float


class Counters(Struct, kw_only=True):
    """What one source says, of a mailing or of all; with `within`, of messages that ended in [from, until)."""

    source: str
    counts: dict[str, int]
    mailing_id: int | None = None
    within: tuple[float, float] | None = None


class Evidence(Struct, kw_only=True):
    """`clients` are as they were before the first mailing, and every later version. Taken when all is quiet.

    `noticed_s`: how late a busy gateway may note that a call begins or ends. `connections` of one worker, and how many
    `unwritten` outcomes it may hold, bound what one kill can repeat.
    """

    taken_at: float
    calls: list[Call]
    messages: list[Message]
    attempts: list[Attempt]
    mailings: list[Mailing]
    clients: list[Client]
    actions: list[Action] = field(default_factory=list)
    counters: list[Counters] = field(default_factory=list)
    kills: list[Kill] = field(default_factory=list)
    lease_s: float = 60.0
    noticed_s: float = 0.0
    connections: int = 64
    unwritten: int = 500


class Violation(Struct, frozen=True):
    """`invariant` is I1 … I10. The sentence holds no phone and no text."""

    invariant: str
    message_id: int | None
    sentence: str


class _Version(Protocol):
    asked_at: float
    answered_at: float


V = TypeVar("V", bound=_Version)
GRACE_S = 1.0  # how long the old may still hold after the answer


def in_force(versions: list[V], at: float, *, noticed_s: float) -> list[V]:
    """Those a call beginning at `at` may have been made under: a new one from its asking on, the old a bit longer."""
    until = [later.answered_at + GRACE_S + noticed_s for later in versions[1:]] + [inf]
    return [version for version, end in zip(versions, until, strict=True) if version.asked_at <= at <= end]
