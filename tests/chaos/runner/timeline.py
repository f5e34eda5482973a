"""Which faults happen when in a run: drawn from a seed, so that the same seed gives the same list."""

import random
from collections.abc import Iterator
from enum import StrEnum
from typing import Final

from msgspec import Struct

from mailing import failpoints

HALF_WRITTEN: Final = "call.half_written"  # reached in failpoint_process alone
POINTS: Final = (*failpoints.FAILPOINTS, HALF_WRITTEN)
ANY_WORKER: Final = "any worker"
# Reached once in a while, by whichever worker gets the job: the first one there dies.
RARE: Final = frozenset({"plan.inside", "plan.after", "sweep.inside", "report.accepted"})
OUTAGES: Final = ("refuse", "hang", "status:503")
EARLY: Final = 0.6  # what brings messages of its own comes while there are others left to send
LAST: Final = 0.8  # share of the messages, where the last fault lies
NETWORKS: Final = ("down", "reset", "forget", "freeze", "slow")


class Kind(StrEnum):
    kill = "kill"
    restart = "restart"
    terminate = "terminate"
    freeze = "freeze"
    outage = "outage"
    network = "network"
    lock = "lock"
    churn = "churn"
    swarm = "swarm"
    extend = "extend"
    pause = "pause"
    resume = "resume"
    edit = "edit"
    cancel = "cancel"
    delete = "delete"
    opt_out = "opt_out"
    delete_client = "delete_client"
    move_client = "move_client"


class Trial(Struct, frozen=True, kw_only=True):
    """A run: how much of everything, and under which of the settings that decide what a repeat means.

    `clients` is how many each change of people is made to, one after another. `is_quick`: processes are forked,
    whichever worker comes by a point first dies there, and nobody waits the minute that a dead worker's leases last.
    Two faults lie `apart_s` apart at least, also after an outage that held them up. `rate`: calls a second, 0 without a
    limit. `churns` audiences change while they are planned, `extensions` mailings have their end moved on while the
    gateway fails, `swarm` mailings begin at once, `people` ask at the same time.
    """

    name: str
    on_unknown: str = "retry"
    recognises_ids: bool = False
    failover: str = "restore"
    messages: int
    workers: int
    connections: int
    latency_s: float
    kills: int
    restarts: int = 0
    terminations: int = 0
    freezes: int = 0
    freeze_s: float = 90.0
    outages: int = 0
    outage_s: float = 60.0
    settle_s: float = 35.0
    apart_s: float = 0.0
    rate: float = 0.0
    networks: int = 0
    locks: int = 0
    lock_s: float = 15.0
    churns: int = 0
    swarm: int = 0
    extensions: int = 0
    people: int = 4
    clients: int = 0
    hits: int = 1
    end_s: float = 3600.0
    limit_s: float = 1800.0
    stuck_s: float = 240.0
    is_quick: bool = False


FULL: Final = Trial(
    name="full",
    messages=100_000,
    workers=4,
    connections=32,
    latency_s=0.6,
    rate=150.0,  # what lasts a minute is over before the messages are
    apart_s=2.0,
    kills=60,
    restarts=5,
    terminations=20,
    freezes=10,
    outages=3,
    networks=5,
    locks=2,
    churns=8,
    swarm=40,
    extensions=3,
    clients=20,
    hits=40,
    end_s=300.0,
)
SMALL: Final = Trial(
    name="small",
    messages=1_200,
    workers=3,
    connections=16,
    latency_s=0.05,
    rate=60.0,  # what is due at a share of the messages happens before the others are sent, on a slow machine too
    kills=len(POINTS),
    restarts=1,
    terminations=2,
    networks=1,
    locks=1,
    lock_s=5.0,
    churns=2,
    swarm=12,
    extensions=1,
    people=2,
    clients=2,
    hits=3,
    end_s=10.0,
    limit_s=300.0,
    stuck_s=60.0,
    is_quick=True,
)


class Event(Struct, frozen=True, kw_only=True):
    """`at` is the share of the run's messages that are final; `hits` how often a point is passed before."""

    at: float
    kind: Kind
    target: str = ""
    point: str = ""
    hits: int = 1
    seconds: float = 0.0

    def __str__(self) -> str:
        detail = f" at {self.point}, hit {self.hits}" if self.point else ""
        lasts = f" for {self.seconds:g} s" if self.seconds else ""
        return f"{self.at:6.1%}  {self.kind:<14}{self.target}{detail}{lasts}"


def timeline(trial: Trial, seed: int) -> list[Event]:
    chance = random.Random(seed)  # noqa: S311 - a replay, not a secret
    events = [*_of_processes(trial, chance), *_of_parts(trial, chance), *_of_people(trial, chance)]
    return sorted(events, key=lambda event: event.at)


def _of_processes(trial: Trial, chance: random.Random) -> Iterator[Event]:
    for number, at in enumerate(_spread(trial.kills, chance)):
        point = POINTS[number] if number < len(POINTS) else chance.choice(sorted(set(POINTS) - RARE))
        worker = f"worker-{chance.randrange(trial.workers) + 1}"
        hits = chance.randint(1, trial.hits) if point.startswith("call.") else 1
        anyone = point in RARE or (trial.is_quick and point != "stop.draining")
        yield Event(at=at, kind=Kind.kill, target=ANY_WORKER if anyone else worker, point=point, hits=hits)
    for number, at in enumerate(_spread(trial.freezes, chance)):
        worker = f"worker-{number % trial.workers + 1}"
        yield Event(at=at, kind=Kind.freeze, target=worker, seconds=trial.freeze_s)


def _of_parts(trial: Trial, chance: random.Random) -> Iterator[Event]:
    for at in _spread(trial.restarts, chance):
        yield Event(at=at, kind=Kind.restart, target="PostgreSQL")
    for at in _spread(trial.terminations, chance):
        yield Event(at=at, kind=Kind.terminate, target="all backends")
    outages = _spread(trial.outages, chance)
    for number, at in enumerate(outages):
        yield Event(at=at, kind=Kind.outage, target=OUTAGES[number % len(OUTAGES)], seconds=trial.outage_s)
    for number, at in enumerate(_spread(trial.networks, chance)):
        yield Event(at=at, kind=Kind.network, target=NETWORKS[number % len(NETWORKS)], seconds=chance.randint(1, 5))
    # Nothing else goes wrong meanwhile: it follows an outage, or all other faults.
    for at in (outages or [LAST] * trial.locks)[: trial.locks]:
        yield Event(at=at, kind=Kind.lock, target="a message being sent", seconds=trial.lock_s)


def _of_people(trial: Trial, chance: random.Random) -> Iterator[Event]:
    """Mailings by the name of their part in the run, see `parts`."""
    paused_at = chance.uniform(0.02, 0.08)
    yield Event(at=paused_at, kind=Kind.pause, target="paused")
    yield Event(at=paused_at + chance.uniform(0.02, 0.1), kind=Kind.resume, target="paused")
    for begin in (0.03, 0.12, 0.25):
        yield Event(at=begin + chance.uniform(0, 0.08), kind=Kind.edit, target="edited")
    yield Event(at=chance.uniform(0.05, 0.2), kind=Kind.cancel, target="cancelled")
    yield Event(at=chance.uniform(0.05, 0.2), kind=Kind.delete, target="deleted")
    for kind in (Kind.opt_out, Kind.delete_client, Kind.move_client):
        for at in _spread(trial.clients, chance):
            yield Event(at=at, kind=kind, target="long")
    for kind, name, count in ((Kind.churn, "churn", trial.churns), (Kind.extend, "extended", trial.extensions)):
        for number, at in enumerate(_spread(count, chance)):
            yield Event(at=at * EARLY, kind=kind, target=f"{name}-{number + 1}")
    if trial.swarm:
        yield Event(at=chance.uniform(0.05, 0.3), kind=Kind.swarm, target="swarm")


def _spread(count: int, chance: random.Random) -> list[float]:
    """One in each of as many equal stretches; after the last there are messages enough to come by every point."""
    return [0.02 + (LAST - 0.02) * (number + chance.random()) / count for number in range(count)]
