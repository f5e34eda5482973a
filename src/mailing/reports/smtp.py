"""One mail over SMTP. What became of it is a value; its reason is one line without secrets.

    Accepted           every recipient has it, or will never get it (`reason` says who and why)
    PartlyAccepted     some have it, the others are worth another try
    TemporaryFailure   nobody has it as far as one can know; try again
    PermanentFailure   refused for good: by a 5xx answer, without encryption where it is required, for a bad header

A connection lost after the text was handed over is a TemporaryFailure, although the server may have taken the mail:
the next try carries the same Message-ID, and by that a repeat is recognised.
"""

import asyncio
import ssl
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from email.message import EmailMessage
from email.policy import SMTP as SMTP_POLICY
from email.utils import format_datetime
from typing import TypeAlias

import aiosmtplib
from msgspec import Struct

from mailing.settings import Settings

CONNECT_TIMEOUT = 15.0
ANSWER_TIMEOUT = 90.0
"""For each answer: a server that scans the text for spam may take its time after DATA, and giving up means a repeat."""
IMPLICIT_TLS_PORT = 465
"""The one port where no server speaks before it is encrypted."""
MAX_REASON = 300


class Accepted(Struct, frozen=True):
    delivered: Sequence[str]
    reason: str | None = None


class PartlyAccepted(Struct, frozen=True):
    delivered: Sequence[str]
    reason: str


class TemporaryFailure(Struct, frozen=True):
    reason: str


class PermanentFailure(Struct, frozen=True):
    reason: str


Outcome: TypeAlias = Accepted | PartlyAccepted | TemporaryFailure | PermanentFailure


class Mail(Struct, frozen=True, kw_only=True):
    """`message_id` is the part before the @; the sender's domain follows. `table` is CSV, attached as `table_name`."""

    subject: str
    text: str
    html: str
    table: str
    table_name: str
    message_id: str
    date: datetime


def recipients_of(settings: Settings) -> list[str]:
    """Each address once, in the order given."""
    addresses = (address.strip() for address in (settings.report_to or "").split(","))
    return list(dict.fromkeys(address for address in addresses if address))


async def send(
    mail: Mail,
    recipients: Sequence[str],
    settings: Settings,
    *,
    deadline: float,
    tls: ssl.SSLContext | None = None,
) -> Outcome:
    """`deadline` is a time of the event loop's clock; `tls` replaces the system's trusted certificates.

    `recipients` may be some of those in the header: the others have it already.
    """
    headers = _headers(mail, settings)
    if any(_breaks_the_line(value) for value in headers.values()):
        return PermanentFailure("a header would contain a line break or another control character; nothing was sent")
    client = _client(settings, tls)
    try:
        async with asyncio.timeout_at(deadline):
            await client.connect(timeout=CONNECT_TIMEOUT)
            refused, _ = await client.send_message(
                _compose(mail, headers), sender=settings.report_from.strip(), recipients=recipients
            )
    except (aiosmtplib.SMTPException, OSError, ValueError) as error:
        return _failure(error)
    else:
        await _say_goodbye(client)
        return _accepted(recipients, refused)
    finally:
        client.close()


async def check_reachable(settings: Settings, *, within_s: float) -> str | None:
    """What stands in the way of a mail, user and password included; None: nothing does. Nothing is sent."""
    client = _client(settings, None)
    try:
        async with asyncio.timeout(within_s):
            await client.connect(timeout=CONNECT_TIMEOUT)
    except (aiosmtplib.SMTPException, OSError, ValueError) as error:
        return _failure(error).reason
    else:
        await _say_goodbye(client)
        return None
    finally:
        client.close()


def _client(settings: Settings, tls: ssl.SSLContext | None) -> aiosmtplib.SMTP:
    """Where encryption is required the certificate must be right as well; elsewhere any encryption beats none."""
    from_the_start = settings.smtp_port == IMPLICIT_TLS_PORT
    return aiosmtplib.SMTP(
        hostname=settings.smtp_host,
        port=settings.smtp_port,
        username=settings.smtp_user,
        password=settings.smtp_password,
        timeout=ANSWER_TIMEOUT,
        use_tls=from_the_start,
        start_tls=None if from_the_start or not settings.smtp_starttls else True,
        validate_certs=from_the_start or settings.smtp_starttls,
        tls_context=tls,
    )


async def _say_goodbye(client: aiosmtplib.SMTP) -> None:
    """The mail is accepted, whatever becomes of this: a failure now would make it go out again."""
    with suppress(Exception):
        await client.quit(timeout=2)


def _headers(mail: Mail, settings: Settings) -> dict[str, str]:
    domain = settings.report_from.strip().rpartition("@")[2]
    return {
        "From": settings.report_from.strip(),
        "To": ", ".join(recipients_of(settings)),
        "Subject": mail.subject,
        "Date": format_datetime(mail.date),
        "Message-ID": f"<{mail.message_id}@{domain if domain.isascii() else 'mailing.invalid'}>",
        "Auto-Submitted": "auto-generated",
    }


def _compose(mail: Mail, headers: Mapping[str, str]) -> EmailMessage:
    message = EmailMessage(policy=SMTP_POLICY)
    for name, value in headers.items():
        message[name] = value
    message.set_content(mail.text, cte="quoted-printable")
    message.add_alternative(mail.html, subtype="html", cte="quoted-printable")
    message.add_attachment(mail.table, subtype="csv", filename=mail.table_name, cte="base64")
    return message


def _breaks_the_line(value: str) -> bool:
    """The standard library lets some of these through in Python 3.11 (CVE-2026-1299)."""
    return any(ord(character) < 32 or character in "\x7f\x85\u2028\u2029" for character in value)


def _accepted(recipients: Sequence[str], refused: Mapping[str, aiosmtplib.SMTPResponse]) -> Outcome:
    delivered = [recipient for recipient in recipients if recipient not in refused]
    if not refused:
        return Accepted(delivered)
    reason = _of_recipients((name, answer.code, answer.message) for name, answer in refused.items())
    if all(_for_good(answer.code) for answer in refused.values()):
        return Accepted(delivered, reason)
    return PartlyAccepted(delivered, reason)


def _failure(error: Exception) -> TemporaryFailure | PermanentFailure:
    """The order matters: the narrower class stands first."""
    match error:
        case aiosmtplib.SMTPRecipientsRefused(recipients=refused):
            reason = _of_recipients((each.recipient, each.code, each.message) for each in refused)
            return _answered(reason, for_good=all(_for_good(each.code) for each in refused))
        case aiosmtplib.SMTPAuthenticationError(code=code):  # what the server says may repeat what it was told
            return _answered(f"the mail server refused user and password: {code}", for_good=_for_good(code))
        case aiosmtplib.SMTPResponseException(code=code, message=message):
            return _answered(f"the mail server answered {code} {message}", for_good=_for_good(code))
        case OSError():  # refused, reset, closed, timed out, a certificate that is not right
            return TemporaryFailure(one_line(f"no connection to the mail server: {str(error) or 'timed out'}"))
        case _:  # an extension that is missing, such as STARTTLS, or an address that SMTP can't carry
            return PermanentFailure(one_line(str(error)))


def _answered(reason: str, *, for_good: bool) -> TemporaryFailure | PermanentFailure:
    return PermanentFailure(one_line(reason)) if for_good else TemporaryFailure(one_line(reason))


def _for_good(code: int) -> bool:
    return 500 <= code < 600


def _of_recipients(refused: Iterable[tuple[str, int, str]]) -> str:
    return one_line("; ".join(f"{recipient}: {code} {message}" for recipient, code, message in refused))


def one_line(reason: str) -> str:
    """A server may answer anything, in any encoding."""
    printable = "".join(character if character.isprintable() else " " for character in reason)
    return " ".join(printable.split())[:MAX_REASON]
