"""Failovers of a Patroni cluster under a campaign: it goes on by itself, and each message is sent once."""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import httpx
from msgspec import Struct

from chaos.checker.facts import Absence, History
from chaos.checker.invariants import check
from chaos.gateway.ledger import calls_in
from chaos.runner.drill import Drill
from chaos.runner.environment import Site, site
from chaos.runner.patroni import PatroniCluster, patroni_cluster
from chaos.runner.report import Promise, figure, none, table, within
from chaos.runner.timeline import Trial
from chaos.runner.verdict import gather
from mailing.database.connections import DRIVER_ERRORS

MESSAGES: Final = 20_000
RATE: Final = 500.0
FREEZE_S: Final = 45.0
REBOOT_S: Final = 5.0
LAG_S: Final = 1.5
WATCHED_S: Final = 40.0
SETTLED_S: Final = 15.0  # without a call, after sending was disabled
MISSING_CLAIMS: Final = """
    SELECT sum((detail->>'missing_claims')::int) FROM event WHERE kind = 'database.rolled_back'"""


class Case(Struct, frozen=True):
    """`within_s`: from the first write that the new primary acknowledges to the next call."""

    name: str
    fault: Callable[[PatroniCluster], Awaitable[None]]
    within_s: float
    through_proxy: bool = True


async def kill_node(cluster: PatroniCluster) -> None:
    leader = await cluster.leader()
    leader.stopped = True
    leader.signal(signal.SIGKILL)


async def reboot_node(cluster: PatroniCluster) -> None:
    """Kill all its processes and start it again before its lock has run out: the same server, on a new timeline."""
    leader = await cluster.leader()
    leader.signal(signal.SIGKILL)
    leader.kill_patroni()
    await asyncio.sleep(REBOOT_S)
    cluster.boot(leader)


async def kill_postmaster(cluster: PatroniCluster) -> None:
    os.kill((await cluster.leader()).postmaster(), signal.SIGKILL)


async def freeze_node(cluster: PatroniCluster) -> None:
    """Thaw PostgreSQL alone later: a server of the old timeline that nobody supervises.

    Patroni itself may take the lock back when it is thawed and nothing has reset its machine: it needs a watchdog.
    """
    leader = await cluster.leader()
    leader.stopped = True
    leader.signal(signal.SIGSTOP)

    async def thaw() -> None:
        await asyncio.sleep(FREEZE_S)
        leader.kill_patroni()
        leader.signal(signal.SIGCONT)

    cluster.thawing = asyncio.create_task(thaw())


async def switch_over(cluster: PatroniCluster) -> None:
    await cluster.switch_over()


CASES: Final = (
    Case("node killed", kill_node, 10),
    Case("node rebooted", reboot_node, 15),
    Case("postmaster killed", kill_postmaster, 15),
    Case("node frozen for 45 s, all hosts in the address", freeze_node, 15, through_proxy=False),
    Case("switchover", switch_over, 15),
)


async def failover(directory: Path) -> list[Promise]:
    found = []
    for number, case in enumerate(CASES):
        promises = await _without_loss(directory / f"failover-{number}", case)
        print(table(promises), flush=True)
        found += promises
    return found + await _with_loss(directory / "failover-lossy")


async def _without_loss(directory: Path, case: Case) -> list[Promise]:
    directory.mkdir()
    async with patroni_cluster(synchronous=True) as cluster:
        if not case.through_proxy:
            cluster.url = cluster.hosts_url
        async with site(directory, _trial(case.name), seed=1, existing=cluster) as here, here.api() as api:
            drill = Drill(here, api)
            mailing = await _begun(drill)
            home = await _identity(cluster)
            fault_at = time.time()
            watching = asyncio.create_task(drill.load_api(WATCHED_S))
            writing = asyncio.create_task(_back(cluster, home))
            await case.fault(cluster)
            writes_at = await writing
            answers = await watching
            await drill.until(lambda: _finished(drill, mailing), within_s=600)
            calls = calls_in(here.witness.ledger)
            again_s = min(call.began_at for call in calls if call.began_at > writes_at) - writes_at
            ambiguous = await drill.value("SELECT count(*) FROM attempt WHERE outcome = 'ambiguous'")
            ended = len(here.processes.ends)
            absence = Absence(fault_at, writes_at + again_s + SETTLED_S)
            violations = await _violations(here, cluster.reachable_url(), absence)
            repeated = len(calls) - len({call.id for call in calls})
    slowest_s = max(answers.took_ms) / 1000
    statuses = ", ".join(f"{count} x {status}" for status, count in sorted(answers.statuses.items()))
    return [
        figure(f"{case.name}: new primary writes", f"{writes_at - fault_at:.1f} s after the fault"),
        within(f"{case.name}: next call after that", case.within_s, again_s),
        none(f"{case.name}: messages called more than once", repeated),
        none(f"{case.name}: ambiguous attempts", ambiguous),
        none(f"{case.name}: processes that ended", ended),
        none(f"{case.name}: violations of the invariants", violations),
        figure(f"{case.name}: API", f"slowest answer {slowest_s:.1f} s; {statuses}"),
    ]


async def _with_loss(directory: Path) -> list[Promise]:
    """Both standbys receive nothing for LAG_S before the node dies. It is declared lossless all the same."""
    name = "asynchronous, wrongly declared"
    directory.mkdir()
    async with (
        patroni_cluster(synchronous=False) as cluster,
        site(directory, _trial(name), seed=1, existing=cluster) as here,
        here.api() as api,
    ):
        drill = Drill(here, api)
        await _begun(drill)
        home, leader = await _identity(cluster), await cluster.leader()
        receivers = [pid for node in cluster.nodes if node is not leader for pid in node.receivers()]
        for pid in receivers:
            os.kill(pid, signal.SIGSTOP)
        await asyncio.sleep(LAG_S)
        await kill_node(cluster)
        for pid in receivers:  # they end before they read what the kernel still holds for them
            os.kill(pid, signal.SIGTERM)
            os.kill(pid, signal.SIGCONT)
        writes_at = await _back(cluster, home)
        disabled_s = await drill.until(lambda: _is_restored(drill), within_s=120)
        await asyncio.sleep(SETTLED_S)
        later = [call for call in calls_in(here.witness.ledger) if call.began_at > writes_at]
        missing = await drill.value(MISSING_CLAIMS)
    return [
        within(f"{name}: sending disabled after the new primary writes", 10, disabled_s),
        none(f"{name}: calls since", len(later)),
        Promise(f"{name}: claims missing at the first look of a worker", "> 0", str(missing), missing > 0),
    ]


def _trial(name: str) -> Trial:
    return Trial(
        name=name, messages=MESSAGES, workers=2, connections=64, latency_s=0.05, kills=0, rate=RATE, failover="lossless"
    )


async def _begun(drill: Drill) -> int:
    await drill.here.witness.behave(mix={}, latency_s=0.05)
    await drill.clients(MESSAGES, tag="drill")
    for name in drill.here.workers:
        drill.here.processes.start(name, ["worker"], drill.here.settings)
    mailing = await drill.mailing(tag="drill")
    await drill.until(lambda: drill.sent(mailing, MESSAGES // 5))
    return mailing


async def _identity(cluster: PatroniCluster) -> str:
    async with cluster.connection() as connection:
        found: str = await connection.fetchval("SELECT database_identity()")
        return found


async def _back(cluster: PatroniCluster, home: str) -> float:
    """When another timeline acknowledges a write."""
    while True:
        try:
            async with asyncio.timeout(3), cluster.connection() as connection:
                identity = await connection.fetchval("SELECT database_identity() FROM txid_current()")
            if identity != home:
                return time.time()
        except DRIVER_ERRORS:
            pass
        await asyncio.sleep(0.1)


async def _finished(drill: Drill, mailing: int) -> bool:
    try:
        return (await drill.counts(mailing))["sent"] == MESSAGES
    except httpx.HTTPError:
        return False


async def _is_restored(drill: Drill) -> bool:
    return bool(await drill.value("SELECT database_identity = 'restored' FROM installation"))


async def _violations(here: Site, database_url: str, absence: Absence) -> int:
    """Count what the checker of the fault run finds; no worker may run any more.

    `database_url` names no node that was stopped: a former primary that is thawed still answers, with its old rows.
    """
    await here.processes.stop(here.workers)
    return len(check(await gather(here, database_url, History(absences=[absence]))))
