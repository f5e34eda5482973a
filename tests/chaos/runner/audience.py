"""Who is in a run: its clients in parts told apart by tag, and the mailings that each part is the audience of."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from msgspec import Struct

from chaos.runner.timeline import Trial

PHONES_FROM: Final = 79_160_000_000
# Part of the run and its share of the messages; the rest is `long`, which outlasts the others. `windowed`: [3 minutes
# from now in the second zone, 4 minutes from now in the third): open, about to open, about to close, closed. `ending`
# ends while it is sent.
SHARES: Final = {"windowed": 0.08, "paused": 0.07, "edited": 0.07, "cancelled": 0.04, "deleted": 0.03, "ending": 0.06}
ZONES: Final = ("Asia/Kolkata", "Etc/GMT-5", "Asia/Kathmandu", "Etc/UTC")
KOLKATA: Final = timedelta(hours=5, minutes=30)
# Of those who move: within the hours of their mailing, a minute or two before them, and after them until tomorrow.
OPEN, SOON, CLOSED = "Asia/Kathmandu", "Asia/Kolkata", "Asia/Vladivostok"
MOVING_ZONES: Final = (OPEN, OPEN, OPEN, SOON, CLOSED)
KATHMANDU: Final = timedelta(hours=5, minutes=45)
CHURNED, SWARMED, EXTENDED = 0.12, 0.03, 0.03  # shares, of all parts of a kind


class Part(Struct, frozen=True):
    """Clients `first` to `last`. Every one of `mailings` is for all of them."""

    name: str
    first: int
    count: int
    mailings: int = 1

    @property
    def last(self) -> int:
        return self.first + self.count - 1

    @property
    def ids(self) -> range:
        return range(self.first, self.last + 1)

    @property
    def zones(self) -> tuple[str, ...]:
        if self.name == "windowed":
            return ZONES
        return MOVING_ZONES if self.name.startswith("churn") else ("Etc/UTC",)


def parts(trial: Trial) -> dict[str, Part]:
    """In the order of their clients; a message each, and one of every mailing for a swarm's."""
    found: dict[str, Part] = {}
    first = 1
    for name, count, mailings in _sizes(trial):
        found[name] = Part(name, first, count, mailings)
        first += count
    return found


def _sizes(trial: Trial) -> Iterator[tuple[str, int, int]]:
    sizes = [(name, int(trial.messages * share), 1) for name, share in SHARES.items()]
    for kind, share, count in (("churn", CHURNED, trial.churns), ("extended", EXTENDED, trial.extensions)):
        sizes += [(f"{kind}-{nth + 1}", int(trial.messages * share / count), 1) for nth in range(count)]
    if trial.swarm:
        sizes.append(("swarm", int(trial.messages * SWARMED / trial.swarm), trial.swarm))
    yield "long", trial.messages - sum(count * mailings for _, count, mailings in sizes), 1
    yield from sizes


def rows(trial: Trial) -> Iterator[tuple[str, str, str, str]]:
    """phone, operator_code, tag, timezone of each client, in the order of ids; half of each part with each operator."""
    for part in parts(trial).values():
        for nth, client in enumerate(part.ids):
            yield str(phone_of(client)), ("916", "917")[nth % 2], part.name, part.zones[nth // 2 % len(part.zones)]


def phone_of(client: int) -> int:
    """Return the client's first phone."""
    return PHONES_FROM + client - 1
