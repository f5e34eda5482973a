"""The table of a run: what was promised, what was found, kept or broken."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final

from msgspec import Struct

from chaos.runner.fault_player import DISRUPTIVE, TIMED
from chaos.runner.measurements import api_of, next_after, overlaid, rate_back_after, undisturbed
from chaos.runner.record import Record
from chaos.runner.timeline import POINTS, Kind

LEASE_S: Final = 60.0
START_S: Final = 10.0  # of a killed worker on a busy machine: another one killed meanwhile leaves nobody to send
LASTING: Final = frozenset({Kind.outage, Kind.network, Kind.restart})
INVARIANTS: Final = {
    "I1": "one message for each planned recipient",
    "I2": "every message is final at the end",
    "I3": "sent: the gateway accepted it",
    "I4": "failed, expired, cancelled: it never did",
    "I5": "accepted twice: an ambiguous attempt lies between",
    "I6": "every call has an intent committed before it",
    "I7": "no call too early, too late, outside its window or withdrawn",
    "I8": "no two calls of one id at once, unless a lease ran out",
    "I9": "words and phone don't change once they may have arrived",
    "I10": "counters of the API, rows and report agree",
    "I11": "expired: its end or its hours left no time",
    "I12": "no lease is lost but with its worker",
    "I13": "the strongest receipt counts, once, and no forged one",
}


class Promise(Struct, frozen=True):
    name: str
    promised: str
    found: str
    kept: bool
    is_timed: bool = False


def none(name: str, found: int) -> Promise:
    return Promise(name, "0", str(found), found == 0)


def within(name: str, limit_s: float, *found_s: float) -> Promise:
    found = ", ".join(f"{each:.1f} s" for each in found_s)
    return Promise(name, f"≤ {limit_s:g} s", found, max(found_s) <= limit_s)


def figure(name: str, found: str) -> Promise:
    """Measured, and not promised."""
    return Promise(name, "", found, kept=True)


def promises(record: Record) -> list[Promise]:
    return [*_invariants(record), *_duplicates(record), *_recoveries(record), *_api(record), *_coverage(record)]


def table(kept: Sequence[Promise]) -> str:
    rows = [
        ("promise", "promised", "found", ""),
        *((p.name, p.promised, p.found, "" if p.kept else "BROKEN") for p in kept),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _invariants(record: Record) -> Iterator[Promise]:
    found = Counter(violation.invariant for violation in record.violations)
    for number, sentence in INVARIANTS.items():
        yield Promise(f"{number} {sentence}", "0 violations", str(found[number]), found[number] == 0)


def _duplicates(record: Record) -> Iterator[Promise]:
    trial, found = record.trial, record.accounting
    assert found
    reasons = "".join(f"; {count} {why}" for why, count in sorted(found.reasons.items(), key=lambda item: -item[1]))
    total = f"{len(found.repeats)} of {len(record.beginnings)} calls{reasons}"
    if trial.on_unknown == "hold" or trial.recognises_ids:
        yield Promise("accepted again", "0", total, not found.repeats)
    else:
        yield Promise("accepted again, by kills", f"≤ {found.bound}", f"{found.by_kills}; in all {total}", found.holds)


def _recoveries(record: Record) -> Iterator[Promise]:
    outages = [each for each in record.happened if each.event.kind is Kind.outage]
    if record.late_s:
        yield _at_most("a row is locked: the others are recorded", 2, record.late_s)
    killed = [kill.at for kill in record.kills if kill.name.startswith("worker")]
    yield _next_call("worker killed", 5, killed, record, quiet_s=5 + START_S)
    if not record.trial.is_quick:
        yield _at_most("worker killed: its leases are free", 75, [LEASE_S + record.seen.overdue_s])
    restarts = [each.ended for each in record.happened if each.event.kind is Kind.restart]
    yield _next_call("PostgreSQL back", 10, restarts, record, quiet_s=1)
    if outages:
        yield _at_most(
            "gateway back: 90 % of the rate", 30, [rate_back_after(outage, record.beginnings) for outage in outages]
        )


def _next_call(name: str, limit: float, moments: list[datetime], record: Record, *, quiet_s: float) -> Promise:
    """By the moments that no other fault overlays within `quiet_s`: frozen and killed workers together send nothing."""
    faults = [(kill.at, kill.at) for kill in record.kills]
    faults += [(each.begun, each.ended) for each in record.happened if each.event.kind in LASTING]
    freezes = [(each.begun, each.ended) for each in record.happened if each.event.kind is Kind.freeze]
    alone = undisturbed(moments, faults, quiet_s)
    alone = [each for each in alone if overlaid(each, freezes) < record.trial.workers - 1]
    measured, whole = next_after(alone, record.beginnings), next_after(moments, record.beginnings)
    beside = f"{max(whole, default=0.0):.1f} s of all {len(whole)}, beside other faults"
    found = f"{max(measured, default=0.0):.1f} s at most, of {len(measured)} by themselves; {beside}"
    return Promise(
        f"{name}: next call", f"≤ {limit:g} s", found, bool(measured) and max(measured) <= limit, is_timed=True
    )


def _api(record: Record) -> Iterator[Promise]:
    api = api_of(record.seen.slices, record.happened)
    yield Promise("API: internal errors", "0", f"{api.internal_errors} of {api.requests}", api.internal_errors == 0)
    beside = f"{api.failed_beside} ({api.failed} with them)"
    yield Promise("API: failures beside database faults", "0", beside, api.failed_beside == 0)
    yield figure("API: p99", f"{api.p99:.0f} ms, {api.p99_otherwise:.0f} without outages")
    if not math.isnan(api.p99_while_hanging):
        ratio = api.p99_while_hanging / api.p99_otherwise
        yield Promise(
            "API: p99 while the gateway hangs, to otherwise", "≤ 1.2", f"{ratio:.2f}", ratio <= 1.2, is_timed=True
        )
    yield Promise("phones, texts, keys in logs", "0 lines", str(record.leaks), record.leaks == 0)


def _coverage(record: Record) -> Iterator[Promise]:
    """Require that each fault happened: one that did not proves nothing."""
    points = Counter(kill.point for kill in record.kills)
    yield _all("killed at named points", record.trial.kills, len(record.kills))
    missing = sorted(set(POINTS) - points.keys())
    yield Promise("every named point", f"{len(POINTS)}", ", ".join(missing) or "all", not missing)
    happened = Counter(each.event.kind for each in record.happened)
    wanted = Counter(event.kind for event in record.timeline)
    for kind in (kind for kind in Kind if kind in (DISRUPTIVE | TIMED) - {Kind.kill}):
        yield _all(f"{kind}s", wanted[kind], happened[kind])
    yield _all("messages planned, and final", record.seen.planned, record.seen.final)
    yield none("mailings that are not over", record.seen.open)
    changes = Counter("clients" if action.client_id else "mailings" for action in record.actions)
    found = f"{changes['clients']} of clients, {changes['mailings']} of mailings"
    yield Promise("changes made by people", "some", found, bool(changes["clients"] and changes["mailings"]))


def _at_most(name: str, limit: float, found: list[float]) -> Promise:
    longest = max(found, default=0.0)
    return Promise(name, f"≤ {limit:g} s", f"{longest:.1f} s at most, of {len(found)}", longest <= limit, is_timed=True)


def _all(name: str, wanted: int, happened: int) -> Promise:
    return Promise(name, str(wanted), str(happened), happened >= wanted)
