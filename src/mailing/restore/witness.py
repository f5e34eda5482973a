"""Detect whether a failover or a restore lost commits, by what each process has seen acknowledged.

A process commits a number of its own every second, its tick, and remembers the last one that was acknowledged, and the
claims acknowledged since. Replication and recovery keep a prefix of the write-ahead log: a database that has the tick
has everything that was acknowledged before it. A process that finds a commit missing disables sending, at any time. One
that finds nothing missing after a failover resumes sending, if the operator has declared that failovers lose nothing
(decision 10).
"""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import datetime
from enum import auto
from typing import Any, Final

import asyncpg
from msgspec import Struct
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from mailing.database.engine import sessions, transaction
from mailing.database.errors import DATABASE_ERRORS
from mailing.database.monotonic import Ticks, ticks
from mailing.observability.log import get
from mailing.reasons.codes import WordedCode
from mailing.restore.repository import RESTORED_MARK, resume_after_failover

logger = get(__name__)

CHECK_INTERVAL_S: Final = 1.0
CHECK_TIMEOUT_S: Final = 5.0
WARNING_INTERVAL_S: Final = 60.0
GRACE_S: Final = 5.0  # for other processes to find out whether something is missing
MAX_AGE_S: Final = 300.0  # of a tick that counts as evidence: a process may have been frozen since
MAX_CLAIMS: Final = 100_000


class FailoverVerdict(WordedCode):
    """Whether a process would resume sending after a failover, or why it does not."""

    ready = auto(), "would resume after a failover"  # at home
    waiting = auto(), "found nothing missing, and waits for other processes to check"
    undeclared = auto(), "MAILING_FAILOVER is restore"
    asynchronous = auto(), "commits did not wait for a standby"
    newcomer = auto(), "started after the failover"
    outdated = auto(), "was disconnected for too long to tell"  # its last tick is older than MAX_AGE_S
    restored = auto(), "this was not a failover, or a process found something missing"
    missing = auto(), "an acknowledged commit is missing"


class Tick(Struct, frozen=True):
    """A tick that was acknowledged, and the state of the database then. `at`: local time when it was sent."""

    number: int
    at: float
    identity: str
    synchronous: bool
    resumed_at: datetime | None


class Observation(Struct, frozen=True):
    """`here` is the database's identity, `home` that of the one that may send, `tick` this process's newest in it."""

    here: str
    home: str
    standby: bool
    synchronous: bool
    tick: int | None
    resumed_at: datetime | None


_LOOK = """
    SELECT database_identity() AS here, i.database_identity AS home, pg_is_in_recovery() AS standby,
        current_setting('synchronous_standby_names') <> ''
            AND current_setting('synchronous_commit') NOT IN ('off', 'local') AS synchronous,
        w.tick, (SELECT max(finished_at) FROM restoration) AS resumed_at
    FROM installation i LEFT JOIN witness w ON w.process = $1
"""
_WRITE = """
    INSERT INTO witness AS w (process, kind, tick, verdict) VALUES ($1, $2, $3, $4)
    ON CONFLICT (process) DO UPDATE
        SET tick = greatest(w.tick, excluded.tick), verdict = excluded.verdict, seen_at = now()
"""
_MISSING_CLAIMS = """
    SELECT count(*) FROM unnest($1::bigint[], $2::int[]) AS claimed (id, claim_no) LEFT JOIN message m USING (id)
    WHERE coalesce(m.claim_no, 0) < claimed.claim_no
"""
_DISABLE_SENDING = f"""
    WITH disabled AS (
        UPDATE installation SET database_identity = '{RESTORED_MARK}'
        WHERE database_identity = $1 AND database_identity <> '{RESTORED_MARK}' AND database_identity() = $2
        RETURNING true
    )
    INSERT INTO event (kind, actor, detail) SELECT 'database.rolled_back', $3, $4::text::jsonb FROM disabled
"""  # noqa: S608 - a constant

Claim = tuple[int, int]  # message id, claim number
Wake = Callable[[AsyncSession], Awaitable[None]]


class Witness:
    """`by` is the kind of process, `api` or `worker`: the actor of its events.

    `lossless`: the operator has declared that no failover loses anything. `wake` enqueues what there is to send.
    """

    def __init__(self, *, by: str, lossless: bool, wake: Wake, ticks: Ticks = ticks) -> None:
        self._process = str(uuid.uuid4())
        self._by = by
        self._lossless = lossless
        self._wake = wake
        self._ticks = ticks
        self._tick: Tick | None = None
        self._sent = 0
        self._claims: list[Claim] = []  # acknowledged since the newest tick was sent
        self._claims_before: list[Claim] = []  # since the newest acknowledged one was sent
        self._here, self._since = "", 0.0  # the identity seen last, and since when
        self._missed_at = ""  # the identity of a database where something was missing
        self._back_at: float | None = None  # when the database answered again; None: away
        self._warned_at = -WARNING_INTERVAL_S

    def remember(self, claims: Iterable[Claim]) -> None:
        """Remember acknowledged claims. Call it before any of the messages is called."""
        self._claims.extend(claims)
        del self._claims[:-MAX_CLAIMS]

    def on_connect(self, connection: Any, _record: object) -> None:  # noqa: ANN401 - SQLAlchemy's adapter of the driver's
        """Judge each new connection before it is used: only a new one can lead to another database."""
        connection.run_async(self._on_connect)

    async def _on_connect(self, driver: asyncpg.Connection) -> None:
        try:
            await self._judge(driver)
        except asyncpg.PostgresError:
            return  # another version's schema: other checks report it

    async def run(self, engine: AsyncEngine) -> None:
        """Look at the database, commit a tick and conclude, every second, until cancelled."""
        while True:
            try:
                await self.visit(engine)
            except DATABASE_ERRORS:  # others report an outage
                self._back_at = None
            else:
                self._back_at = self._back_at or self._ticks()
            await asyncio.sleep(CHECK_INTERVAL_S)

    @property
    def is_settled(self) -> bool:
        """Whether the database has answered for a while, so that workers have recorded the results delayed by an
        outage.
        """
        return self._back_at is not None and self._ticks() - self._back_at >= GRACE_S

    async def visit(self, engine: AsyncEngine) -> FailoverVerdict:
        """Commit a tick if this is the database that may send; else resume sending if nothing speaks against it."""
        async with engine.connect() as connection:
            driver = (await connection.get_raw_connection()).driver_connection
            observed, verdict = await self._judge(driver)
            if observed.standby:
                return verdict
            if observed.here == observed.home and verdict != FailoverVerdict.missing:
                await self._write_tick(driver, observed, verdict)
            else:
                await self._write(driver, 0, verdict)
                self._warn(verdict)
        if verdict == FailoverVerdict.waiting and self._ticks() - self._since >= GRACE_S:
            await self._resume(engine, observed)
        return verdict

    async def _judge(self, driver: asyncpg.Connection) -> tuple[Observation, FailoverVerdict]:
        """Look at the database, and disable sending from it if something acknowledged is missing."""
        tick, claims = self._tick, self._claims_before + self._claims  # before the look, which must show these
        observed = Observation(**await driver.fetchrow(_LOOK, self._process, timeout=CHECK_TIMEOUT_S))
        if observed.standby:
            return observed, FailoverVerdict.restored
        if observed.here != self._here:
            self._here, self._since = observed.here, self._ticks()
        if tick and self._is_evidence(tick, observed):
            lost = await self._count_missing(driver, claims) if observed.here != tick.identity else 0
            if lost or observed.tick is None or observed.tick < tick.number:
                await self._disable_sending(driver, observed, claims=lost)
                return observed, FailoverVerdict.missing
        return observed, self._verdict(tick, observed)

    async def _count_missing(self, driver: asyncpg.Connection, claims: list[Claim]) -> int:
        if not claims:
            return 0
        ids, numbers = zip(*claims, strict=True)
        return int(await driver.fetchval(_MISSING_CLAIMS, ids, numbers, timeout=CHECK_TIMEOUT_S))

    async def _disable_sending(self, driver: asyncpg.Connection, observed: Observation, *, claims: int) -> None:
        detail = json.dumps({"missing_claims": claims})
        await driver.execute(_DISABLE_SENDING, observed.home, observed.here, self._by, detail, timeout=CHECK_TIMEOUT_S)
        self._tick, self._claims, self._claims_before = None, [], []
        if self._missed_at != observed.here:  # several connections may find it at once
            self._missed_at = observed.here
            logger.error("database rolled back to an earlier state; sending is disabled", missing_claims=claims)

    def _verdict(self, tick: Tick | None, observed: Observation) -> FailoverVerdict:
        if observed.here == observed.home:
            return _readiness(lossless=self._lossless, synchronous=observed.synchronous)
        if not _is_failover(observed):
            return FailoverVerdict.missing if self._missed_at == observed.here else FailoverVerdict.restored
        if tick is None or tick.identity != observed.home:
            return FailoverVerdict.newcomer
        if self._is_old(tick):
            return FailoverVerdict.outdated
        readiness = _readiness(lossless=self._lossless, synchronous=tick.synchronous)
        return FailoverVerdict.waiting if readiness == FailoverVerdict.ready else readiness

    async def _write_tick(self, driver: asyncpg.Connection, observed: Observation, verdict: FailoverVerdict) -> None:
        self._sent += 1
        tick = Tick(self._sent, self._ticks(), observed.here, observed.synchronous, observed.resumed_at)
        self._claims_before, self._claims = (self._claims_before + self._claims)[-MAX_CLAIMS:], []
        await self._write(driver, tick.number, verdict)
        self._tick, self._claims_before, self._missed_at = tick, [], ""

    async def _write(self, driver: asyncpg.Connection, tick: int, verdict: FailoverVerdict) -> None:
        await driver.execute(_WRITE, self._process, self._by, tick, verdict, timeout=CHECK_TIMEOUT_S)

    async def _resume(self, engine: AsyncEngine, observed: Observation) -> None:
        async with transaction(sessions(engine)) as session:
            if not await resume_after_failover(session, home=observed.home, here=observed.here, by=self._by):
                return
            await self._wake(session)
        logger.warning("sending resumed after a failover", was=observed.home, now=observed.here)

    def _is_evidence(self, tick: Tick, observed: Observation) -> bool:
        """Whether a missing tick counts. Not after an operator has resumed knowing that something is missing.

        The row of a process that is silent for long is deleted, so a process that was frozen may find its row missing.
        """
        resumed_since = observed.resumed_at and (tick.resumed_at is None or observed.resumed_at > tick.resumed_at)
        return not resumed_since and not (observed.tick is None and self._is_old(tick))

    def _is_old(self, tick: Tick) -> bool:
        return self._ticks() - tick.at > MAX_AGE_S

    def _warn(self, verdict: FailoverVerdict) -> None:
        if verdict != FailoverVerdict.waiting and time.monotonic() - self._warned_at >= WARNING_INTERVAL_S:
            self._warned_at = time.monotonic()
            remedy = "run mailing resume-after-restore"
            logger.warning("restored database: nothing is sent", reason=verdict.value, remedy=remedy)


def _readiness(*, lossless: bool, synchronous: bool) -> FailoverVerdict:
    if not lossless:
        return FailoverVerdict.undeclared
    return FailoverVerdict.ready if synchronous else FailoverVerdict.asynchronous


def _is_failover(observed: Observation) -> bool:
    """Whether only the timeline is another one, and a later one."""
    here, home = observed.here.split("/"), observed.home.split("/")
    return len(here) == len(home) == 4 and here[1] > home[1] and [here[0], *here[2:]] == [home[0], *home[2:]]


@asynccontextmanager
async def witnessing(
    engine: AsyncEngine, *others: AsyncEngine, by: str, wake: Wake, lossless: bool = False
) -> AsyncIterator[Witness]:
    """Run a witness while the block lasts, for engines that all belong to one database."""
    witness = Witness(by=by, lossless=lossless, wake=wake)
    for each in (engine, *others):
        event.listen(each.sync_engine, "connect", witness.on_connect)
    task = asyncio.create_task(witness.run(engine))
    try:
        yield witness
    finally:
        task.cancel()
        await asyncio.wait({task})
