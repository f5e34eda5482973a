"""A real SMTP server in this process that can behave as badly as mail servers do."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from functools import cached_property
from pathlib import Path
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

CERTIFICATE = Path(__file__).with_name("localhost.pem")
"""Self-signed, for localhost and 127.0.0.1, with its key."""
DROP = "the connection is cut instead of an answer"
USER, PASSWORD = "postman", "correct horse battery"


@dataclass
class Received:
    """A mail. It is parsed when somebody reads it: few of many are read, and those again and again."""

    sender: str
    recipients: list[str]
    content: bytes

    @cached_property
    def message(self) -> EmailMessage:
        message = message_from_bytes(self.content, policy=policy.default)
        assert isinstance(message, EmailMessage)
        return message

    @cached_property
    def subject(self) -> str:
        return str(self.message["Subject"])

    @cached_property
    def day(self) -> str:
        """Return the day that it reports."""
        return str(self.message["Message-ID"])[len("<report.") :][:10]

    def body(self, form: str) -> str:
        """Return the text of the form `plain` or `html`."""
        part = self.message.get_body((form,))
        assert part
        return str(part.get_content())


@dataclass
class PostOffice:
    """Answers are taken from the front of the lists; an empty list accepts."""

    port: int = 0
    mails: list[Received] = field(default_factory=list)
    recipient_answers: list[str] = field(default_factory=list)
    data_answers: list[str] = field(default_factory=list)
    during_data: Callable[[], Awaitable[None]] | None = None
    conversations: int = 0
    encrypted: list[bool] = field(default_factory=list)

    @property
    def subjects(self) -> list[str]:
        return [mail.subject for mail in self.mails]

    @property
    def days(self) -> list[str]:
        """Which days were reported, in the order of arrival."""
        return [mail.day for mail in self.mails]

    async def handle_MAIL(  # noqa: N802 - aiosmtpd's name
        self, _server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        self.conversations += 1
        self.encrypted.append(session.ssl is not None)
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 OK"

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        answer = self.recipient_answers.pop(0) if self.recipient_answers else "250 OK"
        if answer.startswith("250"):
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(self, server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's name
        if self.during_data:
            await self.during_data()
        answer = self.data_answers.pop(0) if self.data_answers else "250 OK"
        if answer == DROP or answer.startswith("250"):
            assert isinstance(envelope.content, bytes)
            self.mails.append(Received(str(envelope.mail_from), list(envelope.rcpt_tos), envelope.content))
        if answer == DROP:
            assert isinstance(server.transport, asyncio.Transport)
            server.transport.abort()
        return answer


@asynccontextmanager
async def open_post_office(*, port: int = 0, tls: bool = False, auth: bool = False) -> AsyncIterator[PostOffice]:
    """`auth` needs `tls`: the password is asked for over an encrypted connection alone."""
    office = PostOffice()
    loop = asyncio.get_running_loop()
    options: dict[str, Any] = {}
    if tls:
        options["tls_context"] = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        options["tls_context"].load_cert_chain(CERTIFICATE)
    if auth:
        options |= {"auth_required": True, "authenticator": _authenticate}
    server = await loop.create_server(
        lambda: SMTP(office, loop=loop, hostname="localhost", enable_SMTPUTF8=True, **options), "127.0.0.1", port
    )
    office.port = server.sockets[0].getsockname()[1]
    yield office
    server.close()


def _authenticate(_server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, given: object) -> AuthResult:
    """`handled=False` makes aiosmtpd answer; otherwise the client waits for its timeout."""
    assert isinstance(given, LoginPassword)
    right = (given.login, given.password) == (USER.encode(), PASSWORD.encode())
    return AuthResult(success=right, handled=False)
