"""All that is known about each message, side by side: its row, its calls, and the attempt that each call became."""

from collections import defaultdict
from collections.abc import Sequence

from msgspec import Struct

from chaos.checker.facts import Attempt, Call, Evidence, Message

# A worker takes the database's clock by one round trip and a wait for a connection, so it may run that much ahead.
CLOCK_AHEAD_S = 10.0
# A worker that gave up a call may have written it, and a busy gateway notes it later.
NOTED_LATE_S = 1.0
# A worker that was frozen right before it wrote a call writes it when it goes on, whatever was recorded meanwhile.
THAWED_WITHIN_S = 0.5


class Pair(Struct, frozen=True):
    call: Call
    attempt: Attempt | None

    @property
    def number(self) -> int:
        return self.attempt.number if self.attempt else 0

    @property
    def may_have_arrived(self) -> bool:
        ambiguous = self.attempt is not None and self.attempt.outcome == "ambiguous"
        return ambiguous or self.call.accepted_at is not None


class Trail(Struct, frozen=True):
    """`pairs` in the order of the calls' first bytes. No `message`: the database does not know the id."""

    id: int
    message: Message | None
    attempts: list[Attempt]
    pairs: list[Pair]

    @property
    def accepted(self) -> list[Pair]:
        return [pair for pair in self.pairs if pair.call.accepted_at is not None]


def trails(evidence: Evidence) -> list[Trail]:
    calls: dict[int, list[Call]] = defaultdict(list)
    for call in evidence.calls:
        calls[call.id].append(call)
    attempts: dict[int, list[Attempt]] = defaultdict(list)
    for attempt in evidence.attempts:
        attempts[attempt.message_id].append(attempt)
    messages = {message.id: message for message in evidence.messages}
    return [
        _trail(id_, messages.get(id_), calls.get(id_, []), attempts.get(id_, []), evidence.thaws)
        for id_ in sorted(messages.keys() | calls.keys())
    ]


def _trail(
    id_: int, message: Message | None, calls: list[Call], attempts: list[Attempt], thaws: Sequence[float]
) -> Trail:
    calls.sort(key=lambda call: call.began_at)
    attempts.sort(key=lambda attempt: attempt.number)
    return Trail(id_, message, attempts, _paired(calls, attempts, thaws))


def _paired(calls: Sequence[Call], attempts: Sequence[Attempt], thaws: Sequence[float]) -> list[Pair]:
    """Each call with the first attempt after the last call's that can be it; attempts without a call are passed by.

    A call that was written at a thaw has an earlier attempt, and is taken for it only if it can be of no other.
    """
    pairs, left = [], list(attempts)
    for call in calls:
        thawed = any(abs(call.began_at - each) <= THAWED_WITHIN_S for each in thaws)
        can_be = [n for n, attempt in enumerate(left) if _is_of(attempt, call)]
        if not can_be and thawed:
            can_be = [n for n, attempt in enumerate(left) if attempt.duration_s is None]
        at = next(iter(can_be), None)
        pairs.append(Pair(call, None if at is None else left[at]))
        if at is not None:
            del left[: at + 1]
    return pairs


def _is_of(attempt: Attempt, call: Call) -> bool:
    if attempt.outcome == "not_sent" and attempt.http_status is None:
        return False
    if attempt.duration_s is None:
        return call.began_at <= attempt.started_at
    ended_at = attempt.started_at + attempt.duration_s
    return attempt.started_at - CLOCK_AHEAD_S <= call.began_at <= ended_at + NOTED_LATE_S
