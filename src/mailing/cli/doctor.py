"""`mailing doctor`: check everything a running service needs; say what is wrong and what to do."""

import base64
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import ExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import click
from msgspec import Struct
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from mailing.cli.options import example
from mailing.cli.runtime import run
from mailing.database.clock import database_now
from mailing.database.engine import open_engine, sessions, transaction
from mailing.database.error_messages import describe
from mailing.database.errors import DATABASE_ERRORS
from mailing.database.lock_waits import find_blocker
from mailing.database.schema import schema_fault
from mailing.database.server_version import MIN_POSTGRESQL
from mailing.errors import ConfigurationError, MailingError
from mailing.gateway import checks
from mailing.gateway.outcome import Outcome
from mailing.gateway.providers import holds_unknown, problems_of, provider_of
from mailing.gateway.repository import read
from mailing.job_queue.inspection import can_enqueue, job_counts, live_workers
from mailing.metrics.repository import DUE_AGE_S
from mailing.observability.masking import mask_addresses
from mailing.process import embedded_postgres
from mailing.process.local_database import data_dir_of
from mailing.reasons.codes import ReasonCode, words_of
from mailing.reports import smtp
from mailing.reports.delivery_log import failing_reports
from mailing.restore.repository import witnesses
from mailing.restore.witness import FailoverVerdict
from mailing.settings import DOTENV, PREFIX, Settings, environment_names, load, names_of_others, source_of
from mailing.timezones import iana_version
from mailing.urls import host_of

TIMEOUT_S = 10.0
MAX_CLOCK_SKEW_S = 5.0  # a Retry-After date is compared with the worker's own clock
MAX_DUE_S = 60.0  # twice the time in which calls are counted
EXPIRY_WARNING = timedelta(days=7)


@click.command(epilog=example("mailing doctor"))
def doctor() -> None:
    """Check configuration, database, schema, queue, gateway, mail and clock, and print what to do.

    It changes nothing and sends nothing. The exit code is 1 if a check fails.
    """
    sys.exit(0 if run(print_findings(DOTENV, click.echo)) else 1)


class Finding(Struct, frozen=True):
    """`warn`: it works, but the operator should know."""

    part: str
    verdict: Literal["ok", "warn", "fail"]
    detail: str
    remedy: str = ""


async def print_findings(dotenv: Path, echo: Callable[[str], None]) -> bool:
    """Print each finding as soon as it is known. Return whether no check failed."""
    passed = True
    async for finding in run_checks(os.environ, dotenv):
        echo(line(finding))
        passed = passed and finding.verdict != "fail"
    return passed


def line(finding: Finding) -> str:
    found = f"{finding.verdict:<6} {finding.part:<14} {finding.detail}"
    return f"{found}\n{'':<22}→ {finding.remedy}" if finding.remedy else found


async def run_checks(environ: Mapping[str, str], dotenv: Path) -> AsyncIterator[Finding]:
    try:
        settings = load(environ, dotenv)
    except ConfigurationError as error:
        for problem in error.problems:
            yield Finding("configuration", "fail", problem, "correct it in the environment or in .env")
        return
    yield Finding("configuration", "ok", f"every MAILING_… name is known and every value is valid; {source_of(dotenv)}")
    if others := names_of_others(dotenv):
        verdict, remedy = _unprefixed(others)
        yield Finding(".env", verdict, f"names that are not Mailing's: {', '.join(others)}", remedy)
    yield Finding("time zones", "ok", f"IANA {iana_version()}, from the Python package tzdata {version('tzdata')}")
    async for finding in _database(settings):
        yield finding
    yield await _gateway(settings)
    yield _provider(settings)
    if credentials := await _credentials(settings):
        yield credentials
    if token := _token(settings):
        yield token
    yield await _mail(settings)


def _unprefixed(names: list[str]) -> tuple[Literal["ok", "warn"], str]:
    meant = [PREFIX + name for name in names if PREFIX + name in environment_names()]
    return ("warn", f"if {' or '.join(meant)} is meant, write that") if meant else ("ok", "")


async def _database(settings: Settings) -> AsyncIterator[Finding]:
    if settings.database_url is None and not embedded_postgres.exists(data_dir_of(settings)):
        unset = "MAILING_DATABASE_URL is not set, and there is no embedded database yet"
        yield Finding("database", "warn", unset, "set it, or run mailing up, which creates an embedded one")
        return
    try:
        async with _engine(settings) as engine:
            async for finding in _database_checks(settings, engine):
                yield finding
    except (MailingError, *DATABASE_ERRORS) as error:
        detail = str(error) if isinstance(error, MailingError) else f"it does not answer correctly: {describe(error)}"
        yield Finding("database", "fail", detail, "check that PostgreSQL runs and that MAILING_DATABASE_URL is correct")


@asynccontextmanager
async def _engine(settings: Settings) -> AsyncIterator[AsyncEngine]:
    """Connect to the configured database, or to the embedded one if it exists. Migrate neither."""
    with ExitStack() as running:
        url = settings.database_url or running.enter_context(embedded_postgres.start(data_dir_of(settings))).url
        async with open_engine(url, application="mailing-cli", pool_size=2, limit_s=TIMEOUT_S) as engine:
            yield engine


async def _database_checks(settings: Settings, engine: AsyncEngine) -> AsyncIterator[Finding]:
    async with transaction(sessions(engine)) as session:
        server = await _server(session)
        yield server
        if server.verdict == "ok":
            yield await _space(session)
        yield await _clock(session)
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


async def _space(session: AsyncSession) -> Finding:
    try:
        async with session.begin_nested() as probe:
            await session.execute(_TAKE_SPACE)
            await probe.rollback()
    except DBAPIError as error:
        detail = f"PostgreSQL can store nothing: {describe(error)}"
        return Finding("disk", "fail", detail, "make room on its disk, or grant what it refuses")
    return Finding("disk", "ok", "PostgreSQL has room for new rows")


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
    holder = f"process {found.pid} of PostgreSQL ({found.usename}, {found.application_name or 'unnamed'})"
    waits = f"statements that wait for it: {found.waiting}, the longest for {found.longest_s:.0f} s"
    detail = f"{holder} holds a lock{f' on {found.tables}' if found.tables else ''}; {waits}"
    return Finding("locks", "fail", detail, f"find out what it does; SELECT pg_terminate_backend({found.pid}) ends it")


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


async def _gateway(settings: Settings) -> Finding:
    if settings.gateway_url is None:
        unset = "MAILING_GATEWAY_URL is not set: mailing up runs the sandbox, mailing worker refuses to start"
        return Finding("gateway", "warn", unset)
    try:
        failure = await checks.check_reachable(settings.gateway_url, within_s=TIMEOUT_S)
    except ValueError as error:
        failure = str(error)
    if failure:
        there = f"{host_of(settings.gateway_url)}: {failure}"
        return Finding("gateway", "fail", there, "check that MAILING_GATEWAY_URL is correct and reachable")
    return Finding("gateway", "ok", f"{host_of(settings.gateway_url)}: reachable; no message was sent")


def _provider(settings: Settings) -> Finding:
    try:
        provider = provider_of(settings)
    except ValueError as error:
        return Finding("provider", "fail", str(error), "correct MAILING_GATEWAY_TOKEN")
    if problems := problems_of(settings):
        return Finding("provider", "fail", "; ".join(problems))
    unclear = "is parked as unknown" if holds_unknown(settings) else "is sent again under the same id"
    repeats = "recognises a repeat" if provider.repeat_is_safe else "is not known to recognise a repeat"
    detail = f"{provider.name} {repeats}: a call without a clear answer {unclear}"
    if not provider.sends_receipts:
        return Finding("provider", "ok", f"{detail}; it sends no receipts")
    if settings.public_url is None:
        off = f"{detail}; receipts are off"
        return Finding("provider", "warn", off, "set MAILING_PUBLIC_URL to learn what became of each message")
    return Finding("provider", "ok", f"{detail}; receipts come to {host_of(settings.public_url)}")


async def _credentials(settings: Settings) -> Finding | None:
    if settings.gateway_url is None or _provider(settings).verdict == "fail":
        return None
    answer = await checks.check_credentials(provider_of(settings), settings.gateway_url, within_s=TIMEOUT_S)
    if answer is None:
        return None
    if answer.outcome is Outcome.accepted:
        return Finding("credentials", "ok", "the provider accepts them")
    if answer.outcome is Outcome.configuration:
        remedy = "correct MAILING_GATEWAY_USER and MAILING_GATEWAY_TOKEN"
        return Finding("credentials", "fail", words_of(answer.full_reason), remedy)
    return Finding("credentials", "warn", f"they could not be checked: {words_of(answer.full_reason)}")


def _token(settings: Settings) -> Finding | None:
    """Check a JWT's expiry, without verifying its signature."""
    expires = _expiry(settings.gateway_token or "")
    if expires is None or settings.gateway_url is None:
        return None
    left, at = expires - datetime.now(UTC), f"{expires:%Y-%m-%d %H:%M} UTC"
    if left >= EXPIRY_WARNING:
        return Finding("gateway token", "ok", f"it expires at {at}")
    renew = "get a new one from the gateway's operator, set MAILING_GATEWAY_TOKEN, restart the workers"
    if left >= timedelta():
        return Finding("gateway token", "warn", f"it expires at {at}", renew)
    return Finding("gateway token", "fail", f"it expired at {at}", renew)


def _expiry(token: str) -> datetime | None:
    try:
        claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
        return datetime.fromtimestamp(claims["exp"], UTC)
    except (IndexError, KeyError, TypeError, ValueError, OverflowError, OSError):
        return None


async def _mail(settings: Settings) -> Finding:
    if not smtp.recipients_of(settings):
        return Finding("mail", "warn", "MAILING_REPORT_TO is not set, so no daily report is sent")
    if failure := await smtp.check_reachable(settings, within_s=TIMEOUT_S):
        return Finding("mail", "fail", failure, "check MAILING_SMTP_HOST and the other MAILING_SMTP_… settings")
    return Finding("mail", "ok", "the mail server accepts the login; no mail was sent")
