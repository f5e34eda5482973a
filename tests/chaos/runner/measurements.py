"""What is measured in a run, from what was recorded: recoveries, the API, leases."""

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final

from msgspec import Struct

from chaos.checker.facts import Evidence
from chaos.runner.fault_player import Happened
from chaos.runner.load import Latencies
from chaos.runner.observer import SLICE_S, Slice
from chaos.runner.timeline import Kind

BEFORE_S: Final = 10.0
RATE_OVER_S: Final = 5.0
RATE_BACK: Final = 0.9
DATABASE_FAULTS: Final = frozenset({Kind.restart, Kind.terminate})
AFTERMATH: Final = timedelta(seconds=15)


class Api(Struct, frozen=True):
    """p99 in milliseconds. `failed`: 5xx and broken connections; `failed_beside`: not in a database fault."""

    requests: int
    p99: float
    p99_otherwise: float
    p99_while_hanging: float
    failed: int
    failed_beside: int
    internal_errors: int


def next_after(moments: Iterable[datetime], beginnings: Sequence[datetime]) -> list[float]:
    """Seconds from each moment to the next call that began; infinite where none did."""
    found = []
    for moment in moments:
        index = bisect_left(beginnings, moment)
        found.append((beginnings[index] - moment).total_seconds() if index < len(beginnings) else float("inf"))
    return found


def undisturbed(
    moments: Iterable[datetime], faults: Sequence[tuple[datetime, datetime]], within_s: float
) -> list[datetime]:
    """Those that lie in no other fault and are followed by none for so long: what is seen then is their own doing."""
    limit = timedelta(seconds=within_s)
    return [
        moment
        for moment in moments
        if not any(begun < moment < ended or moment < begun <= moment + limit for begun, ended in faults)
    ]


def overlaid(moment: datetime, faults: Iterable[tuple[datetime, datetime]]) -> int:
    return sum(begun <= moment <= ended for begun, ended in faults)


def rate_back_after(outage: Happened, beginnings: Sequence[datetime]) -> float:
    """Seconds from the outage's end until calls come at 90 % of the rate that they had before it."""
    wanted = RATE_BACK * _rate(beginnings, outage.begun - timedelta(seconds=BEFORE_S), BEFORE_S)
    for half_seconds in range(240):
        since = outage.ended + timedelta(seconds=half_seconds / 2)
        if _rate(beginnings, since, RATE_OVER_S) >= wanted:
            return half_seconds / 2
    return float("inf")


def late_while_locked(lock: Happened, evidence: Evidence) -> float:
    """Return the longest time from a gateway's answer to its result in the database, while the row was locked."""
    begun, ended = lock.begun.timestamp(), lock.ended.timestamp()
    finished = {message.id: message.finished_at for message in evidence.messages if message.status == "sent"}
    return max(
        (
            (finished[call.id] or math.inf) - call.ended_at
            for call in evidence.calls
            if call.ended_at
            and begun <= call.ended_at <= ended
            and call.accepted_at
            and call.how == "answered 200"
            and call.id in finished
            and call.id not in evidence.locked
        ),
        default=0.0,
    )


def api_of(slices: Sequence[Slice], happened: Sequence[Happened]) -> Api:
    faults = [each for each in happened if each.event.kind in DATABASE_FAULTS]
    outages = [each for each in happened if each.event.kind is Kind.outage]
    hangs = [outage for outage in outages if outage.event.target == "hang"]
    everything = _together(slices)
    return Api(
        requests=len(everything.took_ms),
        p99=everything.percentile(99),
        p99_otherwise=_beside(slices, [*faults, *outages]).percentile(99),
        p99_while_hanging=_together(each for each in slices if any(_within(each, hang) for hang in hangs)).percentile(
            99
        ),
        failed=everything.failures,
        failed_beside=_beside(slices, faults).failures,
        internal_errors=everything.statuses[500],
    )


def _rate(beginnings: Sequence[datetime], since: datetime, seconds: float) -> float:
    upto = since + timedelta(seconds=seconds)
    return (bisect_left(beginnings, upto) - bisect_left(beginnings, since)) / seconds


def _together(slices: Iterable[Slice]) -> Latencies:
    found = Latencies()
    for each in slices:
        found.took_ms += each.found.took_ms
        found.statuses += each.found.statuses
    return found


def _beside(slices: Iterable[Slice], faults: Sequence[Happened]) -> Latencies:
    return _together(each for each in slices if not any(_overlap(each, fault) for fault in faults))


def _overlap(found: Slice, fault: Happened) -> bool:
    return found.at < fault.ended + AFTERMATH and found.at + timedelta(seconds=SLICE_S) > fault.begun


def _within(found: Slice, outage: Happened) -> bool:
    return outage.begun <= found.at and found.at + timedelta(seconds=SLICE_S) <= outage.ended
