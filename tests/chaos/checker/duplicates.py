"""What was accepted more than once, and why: the promise is that kills cause only so many, and each has its reason."""

from collections import Counter

from msgspec import Struct

from chaos.checker.case import Case
from chaos.checker.facts import Evidence
from chaos.checker.outcomes import in_doubt, lease_was_lost
from chaos.checker.traces import Pair, Trail

KILLED = "its worker was lost before it had recorded the outcome"
THAWED = "its worker wrote it down after the lease had run out"
UNEXPLAINED = "unexplained"


class Repeat(Struct, frozen=True):
    """One acceptance after the first of its id; `why` the one before it did not count."""

    message_id: int
    call: int
    why: str


class Accounting(Struct, frozen=True):
    """`by_kills` of the repeats are counted against `bound` = kills x (connections + unwritten outcomes)."""

    repeats: list[Repeat]
    reasons: dict[str, int]
    by_kills: int
    bound: int

    @property
    def holds(self) -> bool:
        return self.by_kills <= self.bound and UNEXPLAINED not in self.reasons


def account(evidence: Evidence, *, connections: int, unwritten: int) -> Accounting:
    """Give each repeat its reason. A kill can leave `connections` and `unwritten` outcomes in doubt."""
    case = Case(evidence)
    repeats = [
        Repeat(trail.id, second.call.n, _why(trail, first, second))
        for trail in case.trails
        for first, second in zip(trail.accepted, trail.accepted[1:], strict=False)
    ]
    reasons = Counter(repeat.why for repeat in repeats)
    return Accounting(repeats, dict(reasons), reasons[KILLED], len(evidence.kills) * (connections + unwritten))


def _why(trail: Trail, first: Pair, second: Pair) -> str:
    if not in_doubt(trail, first, second):
        return UNEXPLAINED
    if first.attempt is None or first.attempt.duration_s is None:
        return KILLED
    written_late = lease_was_lost(first.attempt, first.call)
    return THAWED if written_late else f"the gateway had accepted it, and then: {first.call.how}"
