"""What became of every message: the evidence of a run is collected, kept and checked."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec
from msgspec.structs import replace

from chaos.checker.duplicates import account
from chaos.checker.evidence import collect
from chaos.checker.facts import Absence, Evidence, History, Kill, Reported
from chaos.checker.invariants import check
from chaos.runner.campaign import Campaign
from chaos.runner.environment import Site
from chaos.runner.measurements import late_while_locked
from chaos.runner.record import Record
from chaos.runner.timeline import Kind
from mailing.database.engine import open_engine, sessions

UNWRITTEN: Final = 500  # outcomes of one worker that wait to be recorded, at most: one batch
LEAST_LAG_S: Final = 0.1
BACK_S: Final = 5.0  # until a worker that was cut off has its database again
CUTS: Final = frozenset({Kind.freeze, Kind.restart, Kind.terminate, Kind.network})
LEASE_LEFT_S: Final = 15.0
QUICK_LEASE_LEFT_S: Final = 5.0  # where leases of the dead are shortened


async def judge(here: Site, campaign: Campaign, record: Record, reported: Sequence[Reported]) -> None:
    """Call when no worker runs any more."""
    evidence = await gather(here, here.database.url, _history(campaign, record, reported))
    (here.directory / "evidence.json").write_bytes(msgspec.json.encode(evidence))
    conclude(evidence, record)


async def gather(here: Site, database_url: str, history: History) -> Evidence:
    """Collect the evidence of a run; the gateway knows how late it may have noted a call."""
    lag_s = max(LEAST_LAG_S, (await here.witness.summary()).greatest_lag_s)
    async with open_engine(database_url, application="chaos", pool_size=2) as engine, here.api() as api:
        return await collect(sessions(engine), api, here.witness.ledger, replace(history, lag_s=lag_s))


def conclude(evidence: Evidence, record: Record) -> None:
    record.beginnings = [datetime.fromtimestamp(call.began_at, UTC) for call in evidence.calls]
    record.violations = check(evidence)
    record.accounting = account(evidence, connections=record.trial.connections, unwritten=UNWRITTEN)
    locks = [each for each in record.happened if each.event.kind is Kind.lock]
    record.late_s = [late_while_locked(lock, evidence) for lock in locks]


def _history(campaign: Campaign, record: Record, reported: Sequence[Reported]) -> History:
    return History(
        actions=campaign.actions,
        kills=[Kill(kill.pid, kill.at.timestamp()) for kill in record.kills],
        absences=list(_absences(record)),
        thaws=[each.ended.timestamp() for each in record.happened if each.event.kind is Kind.freeze],
        locked=frozenset(record.locked),
        reported=list(reported),
        lease_left_s=QUICK_LEASE_LEFT_S if record.trial.is_quick else LEASE_LEFT_S,
    )


def _absences(record: Record) -> Iterator[Absence]:
    """List when workers were absent. A process that its watchdog ended is lost like one that was killed."""
    for end in record.ends:
        if end.status == 0:
            continue
        yield Absence(end.at.timestamp(), end.at.timestamp())
    for each in record.happened:
        if each.event.kind in CUTS:
            yield Absence(each.begun.timestamp(), each.ended.timestamp() + BACK_S)
