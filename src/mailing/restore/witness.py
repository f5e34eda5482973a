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
from mailing.restore.repository import SET_ASIDE, resume_after_failover

logger = get(__name__)

CHECK_INTERVAL_S: Final = 1.0
CHECK_TIMEOUT_S: Final = 5.0
WARNING_INTERVAL_S: Final = 60.0
GRACE_S: Final = 5.0  # for other processes to find out whether something is missing
MAX_AGE_S: Final = 300.0  # of a tick that counts as evidence: a process may have been frozen since
MAX_CLAIMS: Final = 100_000


class Verdict(WordedCode):
    """Whether a process would resume sending after a failover, or why it does not."""

    ready = "ready", "would resume after a failover"  # at home
    waiting = "waiting", "found nothing missing, and waits for other processes to check"
    undeclared = "undeclared", "MAILING_FAILOVER is restore"
    asynchronous = "asynchronous", "commits did not wait for a standby"
    newcomer = "newcomer", "started after the failover"
    outdated = "outdated", "was disconnected for too long to tell"  # its last tick is older than MAX_AGE_S
    restored = "restored", "this was not a failover, or a process found something missing"
    missing = "missing", "an acknowledged commit is missing"


class Tick(Struct, frozen=True):
    """A tick that was acknowledged, and the state of the database then. `at`: local time when it was sent."""

    number: int
    at: float
    identity: str
    synchronous: bool
    resumed_at: datetime | None


class Sight(Struct, frozen=True):
    """One look at a database. `tick` is the newest one of this process that it has. Only `home` may send."""

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
_SET_ASIDE = f"""
    WITH aside AS (
        UPDATE installation SET database_identity = '{SET_ASIDE}'
        WHERE database_identity = $1 AND database_identity <> '{SET_ASIDE}' AND database_identity() = $2 RETURNING true
    )
    INSERT INTO event (kind, actor, detail) SELECT 'database.rolled_back', $3, $4::text::jsonb FROM aside
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
        self._here, self._since = "", 0.0  # where this process is, and since when
        self._missed_at = ""  # where it missed something
        self._back_at: float | None = None  # None: away
        self._warned_at = -WARNING_INTERVAL_S

    def remember(self, claims: Iterable[Claim]) -> None:
        """Remember acknowledged claims. Call it before any of the messages is called."""
        self._claims.extend(claims)
        del self._claims[:-MAX_CLAIMS]

    def on_connect(self, connection: Any, _record: object) -> None:  # noqa: ANN401 - SQLAlchemy's adapter of the driver's
        """Judge each new connection before it is used: only a new one can lead to another database."""
        connection.run_async(self._on_connect)

    async def _on_connect(self, connection: Any) -> None:  # noqa: ANN401 - asyncpg ships no types
        try:
            await self._judge(connection)
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
        """Whether the database has answered for a while: workers have recorded by then what an outage held up."""
        return self._back_at is not None and self._ticks() - self._back_at >= GRACE_S

    async def visit(self, engine: AsyncEngine) -> Verdict:
        """Look once.

        Commit a tick if this is the database that may send; otherwise resume sending if nothing speaks against it.
        """
        async with engine.connect() as connection:
            driver = (await connection.get_raw_connection()).driver_connection
            sight, verdict = await self._judge(driver)
            if sight.standby:
                return verdict
            if sight.here == sight.home and verdict != Verdict.missing:
                await self._write_tick(driver, sight, verdict)
            else:
                await self._write(driver, 0, verdict)
                self._warn(verdict)
        if verdict == Verdict.waiting and self._ticks() - self._since >= GRACE_S:
            await self._resume(engine, sight)
        return verdict

    async def _judge(self, connection: Any) -> tuple[Sight, Verdict]:  # noqa: ANN401 - as above
        """Look at the database, and set it aside if something acknowledged is missing."""
        tick, claims = self._tick, self._claims_before + self._claims  # before the look, which must show these
        sight = Sight(**await connection.fetchrow(_LOOK, self._process, timeout=CHECK_TIMEOUT_S))
        if sight.standby:
            return sight, Verdict.restored
        if sight.here != self._here:
            self._here, self._since = sight.here, self._ticks()
        if tick and self._may_object(tick, sight):
            lost = await self._count_missing(connection, claims) if sight.here != tick.identity else 0
            if lost or sight.tick is None or sight.tick < tick.number:
                await self._set_aside(connection, sight, claims=lost)
                return sight, Verdict.missing
        return sight, self._verdict(tick, sight)

    async def _count_missing(self, connection: Any, claims: list[Claim]) -> int:  # noqa: ANN401 - as above
        if not claims:
            return 0
        ids, numbers = zip(*claims, strict=True)
        return int(await connection.fetchval(_MISSING_CLAIMS, ids, numbers, timeout=CHECK_TIMEOUT_S))

    async def _set_aside(self, connection: Any, sight: Sight, *, claims: int) -> None:  # noqa: ANN401 - as above
        detail = json.dumps({"missing_claims": claims})
        await connection.execute(_SET_ASIDE, sight.home, sight.here, self._by, detail, timeout=CHECK_TIMEOUT_S)
        self._tick, self._claims, self._claims_before = None, [], []
        if self._missed_at != sight.here:  # several connections may find it at once
            self._missed_at = sight.here
            logger.error("database rolled back to an earlier state; sending is disabled", missing_claims=claims)

    def _verdict(self, tick: Tick | None, sight: Sight) -> Verdict:
        if sight.here == sight.home:
            return _outlook(lossless=self._lossless, synchronous=sight.synchronous)
        if not _is_failover(sight):
            return Verdict.missing if self._missed_at == sight.here else Verdict.restored
        if tick is None or tick.identity != sight.home:
            return Verdict.newcomer
        if self._is_old(tick):
            return Verdict.outdated
        outlook = _outlook(lossless=self._lossless, synchronous=tick.synchronous)
        return Verdict.waiting if outlook == Verdict.ready else outlook

    async def _write_tick(self, connection: Any, sight: Sight, verdict: Verdict) -> None:  # noqa: ANN401 - as above
        self._sent += 1
        tick = Tick(self._sent, self._ticks(), sight.here, sight.synchronous, sight.resumed_at)
        self._claims_before, self._claims = (self._claims_before + self._claims)[-MAX_CLAIMS:], []
        await self._write(connection, tick.number, verdict)
        self._tick, self._claims_before, self._missed_at = tick, [], ""

    async def _write(self, connection: Any, tick: int, verdict: Verdict) -> None:  # noqa: ANN401 - as above
        await connection.execute(_WRITE, self._process, self._by, tick, verdict, timeout=CHECK_TIMEOUT_S)

    async def _resume(self, engine: AsyncEngine, sight: Sight) -> None:
        async with transaction(sessions(engine)) as session:
            if not await resume_after_failover(session, home=sight.home, here=sight.here, by=self._by):
                return
            await self._wake(session)
        logger.warning("sending resumed after a failover", was=sight.home, now=sight.here)

    def _may_object(self, tick: Tick, sight: Sight) -> bool:
        """Whether a missing tick counts. Not after an operator has resumed knowing that something is missing.

        The row of a process that is silent for long is deleted, so a process that was frozen may find its row missing.
        """
        resumed_since = sight.resumed_at and (tick.resumed_at is None or sight.resumed_at > tick.resumed_at)
        return not resumed_since and not (sight.tick is None and self._is_old(tick))

    def _is_old(self, tick: Tick) -> bool:
        return self._ticks() - tick.at > MAX_AGE_S

    def _warn(self, verdict: Verdict) -> None:
        if verdict != Verdict.waiting and time.monotonic() - self._warned_at >= WARNING_INTERVAL_S:
            self._warned_at = time.monotonic()
            remedy = "run mailing resume-after-restore"
            logger.warning("restored database: nothing is sent", reason=verdict.value, remedy=remedy)


def _outlook(*, lossless: bool, synchronous: bool) -> Verdict:
    if not lossless:
        return Verdict.undeclared
    return Verdict.ready if synchronous else Verdict.asynchronous


def _is_failover(sight: Sight) -> bool:
    """Whether only the timeline is another one, and a later one."""
    here, home = sight.here.split("/"), sight.home.split("/")
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
