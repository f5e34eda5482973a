"""The checks of `mailing doctor` that ask the database."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import ExitStack, aclosing, asynccontextmanager
from datetime import UTC, datetime

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from mailing.cli.findings import Finding
from mailing.database.clock import database_now
from mailing.database.engine import open_engine, sessions, transaction
from mailing.database.error_messages import cause_of, describe
from mailing.database.errors import DATABASE_ERRORS
from mailing.database.lock_waits import find_blocker
from mailing.database.schema import schema_fault
from mailing.database.server_version import MIN_POSTGRESQL
from mailing.errors import MailingError
from mailing.gateway.repository import read
from mailing.job_queue.inspection import can_enqueue, job_counts, live_workers
from mailing.metrics.repository import DUE_AGE_S
from mailing.observability.masking import mask_addresses
from mailing.process import embedded_postgres
from mailing.process.local_database import data_dir_of
from mailing.reasons.codes import ReasonCode, words_of
from mailing.reasons.refusals import RefusalCode
from mailing.reports import smtp
from mailing.reports.delivery_log import failing_reports
from mailing.restore.repository import witnesses
from mailing.restore.witness import FailoverVerdict
from mailing.settings import Settings

MAX_CLOCK_SKEW_S = 5.0  # a Retry-After date is compared with the worker's own clock
COMMIT_S = 2.0  # less than a transaction may be idle: that of the other checks waits meanwhile
MAX_DUE_S = 60.0  # twice the time in which calls are counted


async def check_database(settings: Settings, *, timeout_s: float) -> AsyncGenerator[Finding]:
    if settings.database_url is None and not embedded_postgres.exists(data_dir_of(settings)):
        unset = "MAILING_DATABASE_URL is not set, and there is no embedded database yet"
        yield Finding("database", "warn", unset, "set it, or run mailing up, which creates an embedded one")
        return
    try:
        async with (
            _engine(settings, timeout_s) as engine,
            aclosing(_database_checks(settings, engine)) as findings,
        ):
            async for finding in findings:
                yield finding
    except (MailingError, *DATABASE_ERRORS) as error:
        detail = str(error) if isinstance(error, MailingError) else f"it does not answer correctly: {describe(error)}"
        remedy = "check that PostgreSQL runs and that MAILING_DATABASE_URL is correct"
        if cause_of(error) is RefusalCode.lock_timeout:
            detail, remedy = "a locked table kept the other checks waiting", "free it as said at locks, and try again"
        yield Finding("database", "fail", detail, remedy)


@asynccontextmanager
async def _engine(settings: Settings, timeout_s: float) -> AsyncIterator[AsyncEngine]:
    """Connect to the configured database, or to the embedded one if it exists. Migrate neither."""
    with ExitStack() as running:
        url = settings.database_url or running.enter_context(embedded_postgres.start(data_dir_of(settings))).url
        async with open_engine(url, application="mailing-cli", pool_size=2, limit_s=timeout_s) as engine:
            yield engine


async def _database_checks(settings: Settings, engine: AsyncEngine) -> AsyncGenerator[Finding]:
    async with transaction(sessions(engine)) as session:
        await session.execute(_WAIT_FOR_LOCKS)
        server = await _server(session)
        yield server
        yield await _clock(session)
        if server.verdict == "ok":
            yield await _space(engine)
            if commit := await _commit(engine):
                yield commit
        yield await _locks(session)
        if fault := await schema_fault(engine, migrate="mailing migrate" if settings.database_url else "mailing up"):
            detail, _, remedy = fault.partition("; ")
            yield Finding("schema", "fail", detail, remedy)
            return
        yield Finding("schema", "ok", "up to date")
        if not await can_enqueue(await session.connection()):
            refused = "jobs cannot be enqueued"
            yield Finding("queue", "fail", refused, "grant the database user the privileges of the schema's owner")
            return
        yield await _queue(session)
        yield await _sending(session)
        yield await _failover(session, settings)
        if smtp.recipients_of(settings):
            yield await _reports(session, settings)


_WAIT_FOR_LOCKS = text("SET LOCAL lock_timeout = '2s'")  # who holds one is told before

_SERVER = text("""
    SELECT current_setting('server_version_num')::int / 10000, current_setting('server_encoding'),
        current_setting('transaction_read_only')::bool, pg_is_in_recovery()""")


async def _server(session: AsyncSession) -> Finding:
    started = time.monotonic()
    number, encoding, only_reads, is_standby = (await session.execute(_SERVER)).one()
    if number < MIN_POSTGRESQL:
        too_old = f"PostgreSQL {number} is too old"
        return Finding("database", "fail", too_old, f"use PostgreSQL {MIN_POSTGRESQL} or newer")
    if encoding != "UTF8":
        return Finding("database", "fail", f"the encoding is {encoding}", "create a database with ENCODING 'UTF8'")
    if is_standby:
        detail = f"PostgreSQL {number}, a standby, which only reads"
        return Finding("database", "warn", detail, "workers and the admin page need the address of the primary")
    if only_reads:
        detail = f"PostgreSQL {number} is read-only, so nothing is sent"
        return Finding("database", "fail", detail, "find out who set default_transaction_read_only; then reset it")
    return Finding("database", "ok", f"PostgreSQL {number}, answers in {1000 * (time.monotonic() - started):.0f} ms")


# A full disk refuses the first page, another limit a later one. 4 MB: 0.1 s.
_TAKE_SPACE = text("CREATE TEMPORARY TABLE space_probe AS SELECT n FROM generate_series(1, 100000) n")


async def _space(engine: AsyncEngine) -> Finding:
    try:
        async with sessions(engine)() as session:  # rolled back
            await session.execute(_TAKE_SPACE)
    except DBAPIError as error:
        detail = f"PostgreSQL can store nothing: {describe(error)}"
        return Finding("disk", "fail", detail, "make room on its disk, or grant what it refuses")
    return Finding("disk", "ok", "PostgreSQL has room for new rows")


# A commit waits for a standby if its transaction wrote to the log. This message changes nothing.
_WRITE_TO_LOG = text("SELECT pg_logical_emit_message(true, 'mailing doctor', '')")


async def _commit(engine: AsyncEngine) -> Finding | None:
    """None: a commit is acknowledged in time, or that can't be tried."""
    async with sessions(engine)() as session:
        try:
            await session.execute(_WRITE_TO_LOG)
            async with asyncio.timeout(COMMIT_S):
                await session.commit()
        except DBAPIError:
            return None
        except TimeoutError:
            await session.invalidate()
        else:
            return None
        standbys = await session.scalar(text("SELECT current_setting('synchronous_standby_names')"))
    hangs = f"a commit is not acknowledged within {COMMIT_S:.0f} s, so nothing is sent"
    if not standbys:
        return Finding("commit", "fail", hangs, "look at PostgreSQL's log and at its disk")
    awaited = f"{hangs}; it waits for a standby (synchronous_standby_names = {standbys})"
    return Finding("commit", "fail", awaited, "bring the standby back; to end the sessions that wait does not help")


async def _clock(session: AsyncSession) -> Finding:
    apart_s = abs((datetime.now(UTC) - await database_now(session)).total_seconds())
    if apart_s > MAX_CLOCK_SKEW_S:
        detail = f"this machine and the database are {apart_s:.0f} s apart"
        return Finding("clock", "fail", detail, "synchronize both by NTP; the database's clock decides what is due")
    return Finding("clock", "ok", f"this machine and the database are {apart_s:.1f} s apart")


async def _locks(session: AsyncSession) -> Finding:
    found = await find_blocker(session)
    if found is None:
        return Finding("locks", "ok", "no table is locked, and no statement has waited for a lock for long")
    holder = (
        f"process {found.pid} of PostgreSQL ({found.usename}, {found.application_name or 'unnamed'})"
        if found.pid
        else "a prepared transaction"
    )
    waits = f"statements that wait for it: {found.waiting}, the longest for {found.longest_s:.0f} s"
    detail = f"{holder} holds a lock{f' on {found.tables}' if found.tables else ''}; {waits}"
    how = (
        f"SELECT pg_terminate_backend({found.pid})" if found.pid else "of those in pg_prepared_xacts, ROLLBACK PREPARED"
    )
    return Finding("locks", "fail", detail, f"find out what it does; {how} ends it")


async def _queue(session: AsyncSession) -> Finding:
    running = await live_workers(session)
    ready = [jobs for jobs in await job_counts(session) if jobs.state == "ready"]
    oldest_s = max((jobs.age_s for jobs in ready), default=0)
    count = sum(jobs.count for jobs in ready)
    waiting = f"jobs ready: {count}, the oldest for {oldest_s:.0f} s" if count else "no job is waiting"
    if not running:
        return Finding("queue", "fail", f"no worker is running; {waiting}", "start mailing worker")
    return Finding("queue", "ok", f"workers running: {running}; {waiting}")


async def _sending(session: AsyncSession) -> Finding:
    state = await read(session)
    if state.restored:
        restored = "the database was restored from a backup, or a standby was promoted, so nothing is sent"
        return Finding("sending", "fail", restored, "run mailing resume-after-restore")
    if state.stopped_at:
        stopped = f"stopped since {state.stopped_at:%Y-%m-%d %H:%M} UTC by {state.stopped_by}"
        return Finding("sending", "warn", stopped, "POST /mailing/api/gateway/start resumes it")
    if state.breaker_opened_at:
        opened = f"the circuit breaker is open since {state.breaker_opened_at:%Y-%m-%d %H:%M} UTC"
        remedy = "check the gateway; POST /mailing/api/gateway/probe retries it at once"
        if state.breaker_reason_code == ReasonCode.configuration:
            remedy = "correct MAILING_GATEWAY_URL or MAILING_GATEWAY_TOKEN and restart the workers"
        return Finding("sending", "fail", f"{opened}: {words_of(state.breaker_reason)}", remedy)
    if state.paused_until:
        return Finding("sending", "warn", f"the gateway asked for a pause until {state.paused_until:%H:%M:%S} UTC")
    due_s = await session.scalar(DUE_AGE_S)
    if not state.calls and due_s > MAX_DUE_S:
        stalled = f"no call in the last 30 s, and messages have been due for {due_s:.0f} s"
        return Finding("sending", "fail", stalled, "look for warnings in the workers' log: a full disk, a locked table")
    return Finding("sending", "ok", f"{state.calls} calls in the last 30 s, {state.failed} of them failed")


async def _failover(session: AsyncSession, settings: Settings) -> Finding:
    found = await witnesses(session)
    declared = f"MAILING_FAILOVER={settings.failover} here"
    seen = "; ".join(f"{each.count} {each.kind}: {FailoverVerdict(each.verdict).english}" for each in found)
    detail = f"{declared}; {seen or 'no process is running that could tell'}"
    if settings.failover == "restore" and {each.verdict for each in found} <= {FailoverVerdict.undeclared}:
        held = "after a failover, nothing is sent until mailing resume-after-restore"
        return Finding("failover", "ok", f"{detail}; {held}")
    able = any(
        each.kind == "worker" and each.verdict in {FailoverVerdict.ready, FailoverVerdict.waiting} for each in found
    )
    return Finding("failover", "ok" if able else "warn", detail, "" if able else "docs/cluster.md says what to declare")


async def _reports(session: AsyncSession, settings: Settings) -> Finding:
    failing = await failing_reports(session, settings, now=await database_now(session))
    if not failing:
        return Finding("reports", "ok", "no report waits for a retry")
    oldest = failing[0]
    why = mask_addresses(oldest.last_error or "the last attempt has no result yet")
    detail = f"not sent: {len(failing)}; that of {oldest.day} was tried {oldest.attempts} times: {why}"
    return Finding("reports", "fail", detail, f"fix the cause; mailing report --date {oldest.day} retries it at once")
