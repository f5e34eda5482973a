"""Send one mail over SMTP. The outcome is a value; its reason is one line without secrets.

    Accepted           every recipient was accepted, or rejected permanently (`reason` says which and why)
    PartlyAccepted     some recipients were accepted, the others are worth a retry
    TemporaryFailure   no recipient was accepted, as far as the client knows; retry
    PermanentFailure   rejected: a 5xx answer, no encryption although it is required, a bad header

A connection lost after the text was sent is a TemporaryFailure, although the server may have accepted the mail: the
next attempt has the same Message-ID, by which a duplicate is recognised.
"""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from email.message import EmailMessage
from email.policy import SMTP as SMTP_POLICY
from email.utils import format_datetime
from typing import TypeAlias

import aiosmtplib
from msgspec import Struct

from mailing.settings import Settings

CONNECT_TIMEOUT = 15.0  # shared by the addresses of the server
ANSWER_TIMEOUT = 90.0  # for each: a server that scans for spam is slow after DATA, and a timeout means a duplicate
IMPLICIT_TLS_PORT = 465  # the only port with TLS from the start
MAX_REASON = 300
ERRORS = (aiosmtplib.SMTPException, OSError, ValueError)


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
    """A mail. `message_id` lacks the @ and the sender's domain; `table` is CSV, attached as `table_name`."""

    subject: str
    text: str
    html: str
    table: str
    table_name: str
    message_id: str
    date: datetime


def recipients_of(settings: Settings) -> list[str]:
    """List the recipients: each address once, in the given order."""
    addresses = (address.strip() for address in (settings.report_to or "").split(","))
    return list(dict.fromkeys(address for address in addresses if address))


async def send(
    mail: Mail, recipients: Sequence[str], settings: Settings, *, deadline: float, tls: ssl.SSLContext | None = None
) -> Outcome:
    """Send a mail. `deadline` is a time of the event loop's clock; `tls` replaces the system's trusted certificates.

    `recipients` may be a subset of those in the header: the others have the mail already.
    """
    headers = _headers(mail, settings)
    # control characters, some of which the standard library of Python 3.11 accepts (CVE-2026-1299)
    if any(ord(sign) < 32 or sign in "\x7f\x85\u2028\u2029" for value in headers.values() for sign in value):
        return PermanentFailure(
            "a header would contain a control character; nothing was sent: correct the addresses in the settings"
        )
    try:
        async with _connected(settings, deadline=deadline, tls=tls) as client:
            rejected, _ = await client.send_message(
                _compose(mail, headers), sender=settings.report_from.strip(), recipients=recipients
            )
    except ERRORS as error:
        return _failure(error)
    return _accepted(recipients, rejected)


async def check_reachable(settings: Settings, *, within_s: float) -> str | None:
    """Connect and log in without sending. Returns what prevents a mail; None if nothing does."""
    try:
        async with _connected(settings, deadline=asyncio.get_running_loop().time() + within_s):
            return None
    except ERRORS as error:
        return _failure(error).reason


@asynccontextmanager
async def _connected(
    settings: Settings, *, deadline: float, tls: ssl.SSLContext | None = None
) -> AsyncIterator[aiosmtplib.SMTP]:
    """Connect and log in. Failures of QUIT are ignored: the mail is accepted, and an error would send it again."""
    client = _client(settings, tls)
    try:
        async with asyncio.timeout_at(deadline):
            await client.connect(sock=await _open_socket(settings.smtp_host, settings.smtp_port))
            yield client
        with suppress(Exception):
            await client.quit(timeout=2)
    finally:
        client.close()


async def _open_socket(host: str, port: int) -> socket.socket:
    """Connect to the first address that answers. aiosmtplib spends all its time on the first one.

    Raise OSError with the failure of the last one.
    """
    loop = asyncio.get_running_loop()
    failure = OSError("it has no address")
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for family, kind, protocol, _, address in found:
        connection = socket.socket(family, kind, protocol)
        connection.setblocking(False)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT / len(found)):
                await loop.sock_connect(connection, address)
        except OSError as error:
            connection.close()
            failure = error
        except BaseException:
            connection.close()
            raise
        else:
            return connection
    raise failure


def _client(settings: Settings, tls: ssl.SSLContext | None) -> aiosmtplib.SMTP:
    """Create a client. Required encryption needs a valid certificate; otherwise any encryption is better than none."""
    implicit_tls = settings.smtp_port == IMPLICIT_TLS_PORT
    return aiosmtplib.SMTP(
        hostname=settings.smtp_host,
        username=settings.smtp_user,
        password=settings.smtp_password,
        timeout=ANSWER_TIMEOUT,
        use_tls=implicit_tls,
        start_tls=None if implicit_tls or not settings.smtp_starttls else True,
        validate_certs=implicit_tls or settings.smtp_starttls,
        tls_context=tls,
    )


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


def _accepted(recipients: Sequence[str], rejected: Mapping[str, aiosmtplib.SMTPResponse]) -> Outcome:
    delivered = [recipient for recipient in recipients if recipient not in rejected]
    if not rejected:
        return Accepted(delivered)
    reason = _reason_of((name, answer.code, answer.message) for name, answer in rejected.items())
    if all(_is_permanent(answer.code) for answer in rejected.values()):
        return Accepted(delivered, reason)
    return PartlyAccepted(delivered, reason)


def _failure(error: Exception) -> TemporaryFailure | PermanentFailure:
    """Convert an error. The order matters: narrower classes first."""
    match error:
        case aiosmtplib.SMTPRecipientsRefused(recipients=refused):
            reason = _reason_of((each.recipient, each.code, each.message) for each in refused)
            permanent = all(_is_permanent(each.code) for each in refused)
        case aiosmtplib.SMTPAuthenticationError(code=code):  # the server's message may repeat the credentials
            reason, permanent = f"the mail server rejected user and password: {code}", _is_permanent(code)
        case aiosmtplib.SMTPResponseException(code=code, message=message):
            reason, permanent = f"the mail server answered {code} {message}", _is_permanent(code)
        case OSError():  # refused, reset, closed, timed out, an invalid certificate
            reason, permanent = f"no connection to the mail server: {str(error) or 'timed out'}", False
        case _:  # a missing extension such as STARTTLS, or an address that SMTP can't carry
            reason, permanent = str(error), True
    return PermanentFailure(one_line(reason)) if permanent else TemporaryFailure(one_line(reason))


def _is_permanent(code: int) -> bool:
    return 500 <= code < 600


def _reason_of(refused: Iterable[tuple[str, int, str]]) -> str:
    return one_line("; ".join(f"{recipient}: {code} {message}" for recipient, code, message in refused))


def one_line(reason: str) -> str:
    """Clean an answer: a server may send anything, in any encoding."""
    printable = "".join(character if character.isprintable() else " " for character in reason)
    return " ".join(printable.split())[:MAX_REASON]
