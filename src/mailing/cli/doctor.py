"""`mailing doctor`: looks at everything that a running service needs, and says what is wrong and what to do."""

import base64
import json
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from msgspec import Struct
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from mailing.database.engine import create_engine, sessions, transaction
from mailing.database.errors import TROUBLE
from mailing.database.migrations import OLDEST, schema_fault
from mailing.errors import ConfigurationError, MailingError
from mailing.gateway.client import check_reachable as reach_gateway
from mailing.gateway.repository import read
from mailing.job_queue import inspection
from mailing.job_queue.inspection import takes_jobs, workers
from mailing.observability.masking import mask_addresses
from mailing.process import embedded_postgres
from mailing.process.local_stack import data_dir_of
from mailing.reports.delivery_log import failing_reports
from mailing.reports.repository import clock
from mailing.reports.smtp import check_reachable as reach_mail_server
from mailing.reports.smtp import recipients_of
from mailing.settings import Settings, load

WITHIN_S = 10.0
CLOCK_S = 5.0  # a Retry-After that is a date is read by the worker's own clock
SOON = timedelta(days=7)


class Finding(Struct, frozen=True):
    """`look`: it works, but somebody should know."""

    part: str
    verdict: Literal["ok", "look", "wrong"]
    detail: str
    remedy: str = ""


async def all_is_well(dotenv: Path, say: Callable[[str], None]) -> bool:
    """Says each finding as it is made."""
    findings = []
    async for finding in examine(os.environ, dotenv):
        say(line(finding))
        findings.append(finding)
    return all(finding.verdict != "wrong" for finding in findings)


def line(finding: Finding) -> str:
    told = f"{finding.verdict:<6} {finding.part:<14} {finding.detail}"
    return f"{told}\n{'':<22}→ {finding.remedy}" if finding.remedy else told


async def examine(environ: Mapping[str, str], dotenv: Path) -> AsyncIterator[Finding]:
    """One finding after the other, as they are made."""
    try:
        settings = load(environ, dotenv)
    except ConfigurationError as error:
        for problem in error.problems:
            yield Finding("configuration", "wrong", problem, "correct it in the environment or in .env")
        return
    yield Finding("configuration", "ok", "every MAILING_… name is known and every value fits")
    async for finding in _of_database(settings):
        yield finding
    yield await _gateway(settings)
    if finding_of_token := _token(settings):
        yield finding_of_token
    yield await _mail(settings)


async def _of_database(settings: Settings) -> AsyncIterator[Finding]:
    if settings.database_url is None and not embedded_postgres.exists(data_dir_of(settings)):
        unset = "MAILING_DATABASE_URL is not set, and there is no embedded database yet"
        yield Finding("database", "look", unset, "set it, or run mailing up, which makes an embedded one")
        return
    try:
        async with _engine(settings) as engine, engine.connect() as connection:
            async for finding in _inside(settings, engine, connection):
                yield finding
    except (MailingError, *TROUBLE) as error:
        cause = getattr(error, "orig", None) or error
        name = type(cause.__cause__ or cause).__name__
        detail = str(error) if isinstance(error, MailingError) else f"it does not answer as it should: {name}"
        yield Finding("database", "wrong", detail, "see that PostgreSQL runs and that MAILING_DATABASE_URL is right")


@asynccontextmanager
async def _engine(settings: Settings) -> AsyncIterator[AsyncEngine]:
    """Of the configured database, or of the embedded one that is there already; migrates neither."""
    if settings.database_url is None:
        with embedded_postgres.start(data_dir_of(settings)) as server:
            async with _disposed(server.url) as engine:
                yield engine
        return
    async with _disposed(settings.database_url) as engine:
        yield engine


@asynccontextmanager
async def _disposed(url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(url, application="mailing-cli", pool_size=2, limit_s=WITHIN_S)
    try:
        yield engine
    finally:
        await engine.dispose()


async def _inside(settings: Settings, engine: AsyncEngine, connection: AsyncConnection) -> AsyncIterator[Finding]:
    yield await _server(connection)
    yield await _clock(connection)
    if fault := await schema_fault(engine, migrate="mailing migrate" if settings.database_url else "mailing up"):
        detail, _, remedy = fault.partition("; ")
        yield Finding("schema", "wrong", detail, remedy)
        return
    yield Finding("schema", "ok", "it is this version's")
    if not await takes_jobs(connection):
        refused = "jobs can't be enqueued"
        yield Finding("queue", "wrong", refused, "grant the database's user what the owner of the schema may do")
        return
    yield await _queue(engine)
    yield await _sending(engine)
    if recipients_of(settings):
        yield await _reports(engine, settings)


async def _server(connection: AsyncConnection) -> Finding:
    began = time.monotonic()
    asked = text("SELECT current_setting('server_version_num')::int / 10000, current_setting('server_encoding')")
    version, encoding = (await connection.execute(asked)).one()
    if version < OLDEST:
        too_old = f"PostgreSQL {version} is too old"
        return Finding("database", "wrong", too_old, f"use PostgreSQL {OLDEST} or newer")
    if encoding != "UTF8":
        return Finding("database", "wrong", f"its encoding is {encoding}", "create one with ENCODING 'UTF8'")
    return Finding("database", "ok", f"PostgreSQL {version}, answers in {1000 * (time.monotonic() - began):.0f} ms")


async def _clock(connection: AsyncConnection) -> Finding:
    theirs: datetime = (await connection.execute(text("SELECT clock_timestamp()"))).scalar_one()
    apart_s = abs((datetime.now(UTC) - theirs).total_seconds())
    if apart_s > CLOCK_S:
        detail = f"this machine's and the database's are {apart_s:.0f} s apart"
        return Finding("clock", "wrong", detail, "let both keep time by NTP; the database's decides what is due")
    return Finding("clock", "ok", f"this machine's and the database's are {apart_s:.1f} s apart")


async def _queue(engine: AsyncEngine) -> Finding:
    async with transaction(sessions(engine)) as session:
        at_work, standing = await workers(session), await inspection.standing(session)
    ready = [jobs for jobs in standing if jobs.state == "ready"]
    oldest_s = max((jobs.age_s for jobs in ready), default=0)
    waiting = f"{sum(jobs.count for jobs in ready)} jobs ready, the oldest for {oldest_s:.0f} s"
    if not at_work:
        return Finding("queue", "wrong", f"no worker is at work; {waiting}", "start mailing worker")
    return Finding("queue", "ok", f"{at_work} at work; {waiting}")


async def _sending(engine: AsyncEngine) -> Finding:
    async with transaction(sessions(engine)) as session:
        state = await read(session)
    if state.restored:
        restored = "the database was restored from a backup, nothing is sent"
        return Finding("sending", "wrong", restored, "run mailing resume-after-restore")
    if state.stopped_at:
        stopped = f"stopped since {state.stopped_at:%Y-%m-%d %H:%M} UTC by {state.stopped_by}"
        return Finding("sending", "look", stopped, "POST /mailing/api/gateway/start lets it go on")
    if state.breaker_opened_at:
        opened = f"the breaker is open since {state.breaker_opened_at:%Y-%m-%d %H:%M} UTC: {state.breaker_reason}"
        return Finding(
            "sending", "wrong", opened, "see to the gateway; POST /mailing/api/gateway/probe tries it at once"
        )
    if state.paused_until:
        return Finding("sending", "look", f"the gateway wants a pause until {state.paused_until:%H:%M:%S} UTC")
    return Finding("sending", "ok", f"{state.calls} calls in the last 30 s, {state.failed} of them failed")


async def _reports(engine: AsyncEngine, settings: Settings) -> Finding:
    async with transaction(sessions(engine)) as session:
        failing = await failing_reports(session, settings, now=await clock(session))
    if not failing:
        return Finding("reports", "ok", "none has failed and waits for another try")
    oldest = failing[0]
    why = mask_addresses(oldest.last_error or "the process that tries it has said nothing yet")
    detail = f"not sent: {len(failing)}; that of {oldest.day} was tried {oldest.attempts} times: {why}"
    return Finding("reports", "wrong", detail, f"mend that; mailing report --date {oldest.day} tries it at once")


async def _gateway(settings: Settings) -> Finding:
    if settings.gateway_url is None:
        unset = "MAILING_GATEWAY_URL is not set: mailing up runs the sandbox, a worker alone refuses to start"
        return Finding("gateway", "look", unset)
    try:
        failure = await reach_gateway(settings.gateway_url, within_s=WITHIN_S)
    except ValueError as error:
        failure = str(error)
    if failure:
        return Finding("gateway", "wrong", failure, "see that MAILING_GATEWAY_URL is right and reachable from here")
    return Finding("gateway", "ok", "a connection can be made; no message was sent")


def _token(settings: Settings) -> Finding | None:
    """A token that says when it expires says it openly; nothing is checked with its key."""
    expires = _expiry(settings.gateway_token or "")
    if expires is None or settings.gateway_url is None:
        return None
    left, at = expires - datetime.now(UTC), f"{expires:%Y-%m-%d %H:%M} UTC"
    renew = "get a new one from the gateway's operator, set MAILING_GATEWAY_TOKEN, restart the workers"
    if left < timedelta():
        return Finding("gateway token", "wrong", f"it expired at {at}", renew)
    return Finding(
        "gateway token", "look" if left < SOON else "ok", f"it expires at {at}", renew if left < SOON else ""
    )


def _expiry(token: str) -> datetime | None:
    try:
        claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
        return datetime.fromtimestamp(claims["exp"], UTC)
    except (IndexError, KeyError, TypeError, ValueError, OverflowError, OSError):
        return None


async def _mail(settings: Settings) -> Finding:
    if not recipients_of(settings):
        return Finding("mail", "look", "MAILING_REPORT_TO is not set: no daily report is sent")
    failure = await reach_mail_server(settings, within_s=WITHIN_S)
    if failure:
        return Finding("mail", "wrong", failure, "see that MAILING_SMTP_HOST and its fellows are right")
    return Finding("mail", "ok", "the mail server lets us in; no mail was sent")
