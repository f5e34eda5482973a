"""Messages that the gateway accepted more than once: why each was repeated, and how many the kills account for."""

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from msgspec import Struct

from chaos.checker import Story, stories_of
from chaos.facts import Call, Evidence

KILLED: Final = "a worker was killed before it recorded the acceptance"


class Repeat(Struct, frozen=True):
    """One acceptance after another of the same id; `reason` tells what became of the earlier one."""

    message_id: int
    reason: str


class Duplicates(Struct, frozen=True):
    """No more than `bound` repeats may be due to kills."""

    repeats: list[Repeat]
    bound: int

    @property
    def by_reason(self) -> dict[str, int]:
        return dict(Counter(repeat.reason for repeat in self.repeats).most_common())

    @property
    def within_bound(self) -> bool:
        return self.by_reason.get(KILLED, 0) <= self.bound


def duplicates(evidence: Evidence) -> Duplicates:
    """The bound: every kill may lose what is on the worker's connections, and outcomes that it has not written yet."""
    repeats = [repeat for story in stories_of(evidence) for repeat in _repeats(story, evidence)]
    return Duplicates(repeats, len(evidence.kills) * (evidence.connections + evidence.unwritten))


def _repeats(story: Story, evidence: Evidence) -> Iterator[Repeat]:
    accepted = [place for place, call in enumerate(story.calls) if call.accepted_at is not None]
    for first, second in pairwise(accepted):
        attempt, until = story.made_by[first], story.calls[second].began_at
        lost = attempt is None or attempt.swept
        yield Repeat(story.message.id, _reason(story.calls[first], evidence, lost=lost, until=until))


def _reason(call: Call, evidence: Evidence, *, lost: bool, until: float) -> str:
    if call.how is None:
        return "the gateway was lost before it answered"
    if lost and any(call.began_at <= kill.at <= until for kill in evidence.kills):
        return KILLED
    if lost:
        return "a lease ran out before the acceptance was recorded"
    if call.how == "client left":
        return "the call was given up before the answer"
    return f"the gateway {call.how} after accepting"
