"""`mailing doctor`: check everything a running service needs; say what is wrong and what to do."""

import base64
import json
import os
import sys
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import click

from mailing.cli.database_checks import check_database
from mailing.cli.findings import Finding, line
from mailing.cli.options import example
from mailing.cli.runtime import run
from mailing.errors import ConfigurationError
from mailing.gateway import checks
from mailing.gateway.outcome import Outcome
from mailing.gateway.providers import holds_unknown, problems_of, provider_of
from mailing.reasons.codes import words_of
from mailing.reports import smtp
from mailing.settings import DOTENV, PREFIX, Settings, environment_names, load, names_of_others, source_of
from mailing.timezones import iana_version
from mailing.urls import host_of

TIMEOUT_S = 10.0
EXPIRY_WARNING = timedelta(days=7)


@click.command(epilog=example("mailing doctor"))
def doctor() -> None:
    """Check configuration, database, schema, queue, gateway, mail and clock, and print what to do.

    It changes nothing and sends nothing. The exit code is 1 if a check fails.
    """
    sys.exit(0 if run(print_findings(DOTENV, click.echo)) else 1)


async def print_findings(dotenv: Path, echo: Callable[[str], None]) -> bool:
    """Print each finding as soon as it is known. Return whether no check failed."""
    passed = True
    async with aclosing(run_checks(os.environ, dotenv)) as findings:
        async for finding in findings:
            echo(line(finding))
            passed = passed and finding.verdict != "fail"
    return passed


async def run_checks(environ: Mapping[str, str], dotenv: Path) -> AsyncGenerator[Finding]:
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
    async with aclosing(check_database(settings, timeout_s=TIMEOUT_S)) as findings:
        async for finding in findings:
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
