"""What is known after a fault run, as plain values. Every instant is seconds since 1970, of one machine's clock."""

from typing import Any

from msgspec import Struct

from mailing.mailings.window import LocalWindow

FINAL = frozenset({"sent", "failed", "cancelled", "expired", "unknown"})
STATUSES = FINAL | {"pending", "sending"}
DELIVERY = frozenset({"delivered", "undelivered", "awaited"})


class Call(Struct):
    """One call as the gateway saw it. No `ended_at`: the gateway itself was killed before the end."""

    n: int
    id: int
    phone: int
    text: str
    began_at: float
    accepted_at: float | None = None
    ended_at: float | None = None
    how: str = ""


class Message(Struct, frozen=True, kw_only=True):
    id: int
    mailing_id: int
    client_id: int
    status: str
    claim_no: int
    maybe_accepted: bool
    finished_at: float | None = None


class Attempt(Struct, frozen=True, kw_only=True):
    """As the database keeps it. No `duration_s`: the sweep wrote it at `started_at`, its worker was lost."""

    message_id: int
    number: int
    started_at: float
    duration_s: float | None = None
    outcome: str
    http_status: int | None = None


class Traits(Struct, frozen=True, kw_only=True):
    """What of a client decides about its messages."""

    phone: str
    operator_code: str
    tag: str | None
    timezone: str
    opted_out: bool = False


class Client(Struct, frozen=True):
    """As it is at the end of the run, or as it was when it was deleted. `created_at` begins the transaction that made
    it; one that was deleted counts as if it had always been there.
    """

    id: int
    traits: Traits
    created_at: float = 0.0


class Terms(Struct, frozen=True, kw_only=True):
    """What of a mailing an edit may change: when it may be sent, and to whom."""

    starts_at: float
    ends_at: float
    window: LocalWindow | None
    tags: list[str]
    operator_codes: list[str]

    def selects(self, traits: Traits) -> bool:
        by_tag = not self.tags or traits.tag in self.tags
        return by_tag and (not self.operator_codes or traits.operator_code in self.operator_codes)


class Mailing(Struct, frozen=True, kw_only=True):
    """As it is at the end of the run; `texts` are all its wordings, `audience_max_client_id` its newest client.

    `planned_at` is when the plan of the newest revision was complete; None while it is not.
    """

    id: int
    status: str
    terms: Terms
    texts: frozenset[str]
    audience_max_client_id: int
    created_at: float = 0.0
    planned_at: float | None = None
    is_test: bool = False


class Action(Struct, frozen=True, kw_only=True):
    """What somebody did, noted when the API had answered it with success.

    `kind`: paused, resumed, cancelled, deleted, edited (a mailing or a client), opted_out (a client), imported (a file
    of clients; those it changed are edited, too), stopped, started (all sending), resolved (a message). An edit and an
    opt-out have `details` {"before": …, "after": …}, a deleted client {"before": …}: the API's JSON of it. Without
    `at_asked` it may have taken effect up to PATIENCE_S before the answer.
    """

    at_answered: float
    kind: str
    at_asked: float | None = None
    mailing_id: int | None = None
    client_id: int | None = None
    message_id: int | None = None
    details: dict[str, Any] = {}

    @property
    def may_apply_from(self) -> float:
        return self.at_answered - PATIENCE_S if self.at_asked is None else self.at_asked


PATIENCE_S = 10.0


class Told(Struct, frozen=True):
    """Counts as `source` gives them, of one mailing or, without one, of all: by status, with `planned` for the sum, or
    of DELIVERY, what became of the sent messages.
    """

    source: str
    mailing_id: int | None
    counts: dict[str, int]


class Receipt(Struct, frozen=True, kw_only=True):
    """As the database keeps it; `state` is that of `ReceiptState`."""

    message_id: int
    mailing_id: int
    state: int


class Reported(Struct, frozen=True):
    """A receipt that was sent, and what it was answered. `is_forged`: by somebody without the address."""

    message_id: int
    state: int
    answer: int
    is_forged: bool = False


class Kill(Struct, frozen=True):
    """A worker's kill -9."""

    pid: int
    at: float


class Absence(Struct, frozen=True):
    """While a worker was killed, frozen or cut off from its database: its leases may run out."""

    since: float
    until: float


class History(Struct, frozen=True, kw_only=True):
    """What only the harness knows, because it was the one who did it.

    `lag_s` is how late the gateway may note a call, `lease_left_s` what is left of a lease, at least, when its call
    begins. `locked` are the messages whose rows somebody else held. `thaws` are the times when a frozen worker went on.
    """

    actions: list[Action] = []
    reported: list[Reported] = []
    kills: list[Kill] = []
    absences: list[Absence] = []
    thaws: list[float] = []
    locked: frozenset[int] = frozenset()
    lease_left_s: float = 15.0
    lag_s: float = 0.1


class Evidence(History, frozen=True, kw_only=True):
    """Collected when nothing moves any more.

    `resolutions` are the messages an operator decided about, by the event table. `retry_max_s` is the longest wait
    before another attempt.
    """

    calls: list[Call]
    messages: list[Message]
    attempts: list[Attempt]
    mailings: list[Mailing]
    clients: list[Client]
    taken_at: float
    told: list[Told] = []
    receipts: list[Receipt] = []
    resolutions: frozenset[int] = frozenset()
    retry_max_s: float = 10.0


class Violation(Struct, frozen=True):
    invariant: str
    message_id: int | None
    sentence: str
