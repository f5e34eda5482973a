"""When a mailing's messages will go out: the openings that the plan gives them, and a rate that all zones share.

Pure. Messages leave in the order in which they became due; those of one opening leave evenly, because the ids of their
clients lie mixed.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby

from msgspec import Struct

from mailing.mailings.window import LocalWindow, next_window

HORIZON = timedelta(days=7)
_HOUR = timedelta(hours=1)


class Term(Struct, frozen=True):
    """[begin, end), and each client's local hours."""

    begin: datetime
    end: datetime
    window: LocalWindow | None


class Start(Struct, frozen=True):
    """A zone's messages and their first opening. Without one `reason` says why."""

    timezone: str
    messages: int
    opens_at: datetime | None
    reason: str | None


class Forecast(Struct, frozen=True):
    """`hours`: what leaves in each hour, by zone. `done_at`: null where nobody knows, or some never leave.

    `no_window` have none before the end; `too_late` have one, but the rate does not reach them before the end;
    `after_horizon` are left at the horizon.
    """

    starts: list[Start]
    hours: dict[datetime, dict[str, int]]
    done_at: datetime | None
    no_window: int
    too_late: int
    after_horizon: int


def forecast(zones: Mapping[str, int], term: Term, *, per_second: float | None) -> Forecast:
    """`per_second` None: nobody knows the rate, and each message is told under the hour in which it becomes due.

    Takes some milliseconds where the rate suffices; 0.2 s for 30 zones of which none is ever done, and 3 s for all 400
    of the world: not for the event loop.
    """
    starts = [_start(zone, messages, term) for zone, messages in sorted(zones.items())]
    run = _Run(term, per_second, [_Queue(start, term) for start in starts if start.opens_at])
    run.until(min(term.end, term.begin + HORIZON))
    after_horizon = sum(queue.left for queue in run.queues)
    return Forecast(
        starts=starts,
        hours={hour: dict(sorted((+sent).items())) for hour, sent in run.hours.items() if sent.total()},
        done_at=run.done_at if not after_horizon and not run.too_late else None,
        no_window=sum(start.messages for start in starts if start.opens_at is None),
        too_late=run.too_late,
        after_horizon=after_horizon,
    )


def _start(zone: str, messages: int, term: Term) -> Start:
    found = next_window(zone, term.window, not_before=term.begin, before=term.end)
    return Start(zone, messages, found.opens_at, found.reason)


class _Queue:
    """One zone's messages that have not left, and the opening that they wait for or are in."""

    def __init__(self, start: Start, term: Term) -> None:
        self.zone, self.left, self._term = start.timezone, start.messages, term
        self.opens_at = self.closes_at = term.begin
        self.reopen(term.begin)

    def reopen(self, at: datetime) -> bool:
        """The first opening from `at` on; False: there is none before the end."""
        found = next_window(self.zone, self._term.window, not_before=at, before=self._term.end)
        if found.opens_at is None or found.closes_at is None:
            return False
        self.opens_at, self.closes_at = found.opens_at, found.closes_at
        return True


class _Run:
    """From turn to turn: an hour begins, a zone opens or closes."""

    def __init__(self, term: Term, per_second: float | None, queues: list[_Queue]) -> None:
        self.hours: defaultdict[datetime, Counter[str]] = defaultdict(Counter)
        self.done_at: datetime | None = None
        self.too_late = 0
        self.queues = queues
        self._at = term.begin
        self._per_second = per_second
        self._spare = 0.0  # of a message, left over from the turn before

    def until(self, horizon: datetime) -> None:
        while self.queues and self._at < horizon:
            opened = [queue for queue in self.queues if queue.opens_at <= self._at]
            turn = min(horizon, self._next_turn(opened))
            if opened:
                self._send(opened, turn)
            self._at = turn
            self.queues = [queue for queue in self.queues if queue.left and self._lasts(queue)]

    def _next_turn(self, opened: Sequence[_Queue]) -> datetime:
        opens = [queue.opens_at for queue in self.queues if queue.opens_at > self._at]
        return min([*opens, *(queue.closes_at for queue in opened), *([_hour(self._at) + _HOUR] if opened else [])])

    def _send(self, opened: Sequence[_Queue], turn: datetime) -> None:
        spare, room = self._spare, self._room(opened, turn)
        hour, sent = self.hours[_hour(self._at)], 0
        for _, queues in groupby(sorted(opened, key=_age), _age):
            for queue, share in _shares(list(queues), room - sent):
                queue.left -= share
                sent += share
                hour[queue.zone] += share
        if self._per_second and sent:
            self.done_at = min(turn, self._at + timedelta(seconds=(sent - spare) / self._per_second))

    def _room(self, opened: Sequence[_Queue], turn: datetime) -> int:
        """How many may leave before `turn`."""
        if self._per_second is None:
            return sum(queue.left for queue in opened)
        room, self._spare = divmod(self._spare + self._per_second * (turn - self._at).total_seconds(), 1)
        return int(room)

    def _lasts(self, queue: _Queue) -> bool:
        if self._at < queue.closes_at or queue.reopen(self._at):
            return True
        self.too_late += queue.left
        return False


def _age(queue: _Queue) -> datetime:
    return queue.opens_at


def _shares(queues: Sequence[_Queue], room: int) -> list[tuple[_Queue, int]]:
    """As much of each as it has of them all; the shares are whole and add up to `room`, or to all."""
    total = sum(queue.left for queue in queues)
    room = min(room, total)
    before = given = 0
    shares = []
    for queue in queues:
        before += queue.left
        upto = room * before // max(total, 1)
        shares.append((queue, upto - given))
        given = upto
    return shares


def _hour(instant: datetime) -> datetime:
    return instant.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
