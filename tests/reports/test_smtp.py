import asyncio
import socket
import ssl
from contextlib import ExitStack
from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from mailing.reports import smtp
from mailing.reports.smtp import (
    Accepted,
    Mail,
    Outcome,
    PartlyAccepted,
    PermanentFailure,
    TemporaryFailure,
    recipients_of,
    send,
)
from mailing.settings import Settings
from support.mail_server import CERTIFICATE, DROP, PASSWORD, USER, PostOffice, open_post_office
from support.raw_server import serving

MAIL = Mail(
    subject="Report: 1\u202f234 sent",
    text="Plain words, Привет\n",
    html="<p>Words in HTML, Привет</p>",
    table="\ufeffmailing_id,text\r\n1,Привет\r\n",
    table_name="mailings-2024-01-05.csv",
    message_id="report.2024-01-05.0123456789ab",
    date=datetime(2024, 1, 6, 6, tzinfo=UTC),
)


def settings(office: PostOffice, *, to: str = "ops@example.org", starttls: bool = False) -> Settings:
    return Settings(
        smtp_port=office.port, report_to=to, report_from="mailing@reports.example.org", smtp_starttls=starttls
    )


async def post(
    chosen: Settings, mail: Mail = MAIL, *, seconds: float = 10, tls: ssl.SSLContext | None = None
) -> Outcome:
    deadline = asyncio.get_running_loop().time() + seconds
    return await send(mail, recipients_of(chosen), chosen, deadline=deadline, tls=tls)


async def test_a_mail_arrives_with_both_forms_the_table_and_its_headers(office: PostOffice) -> None:
    to = "one@example.org, two@example.org,one@example.org"
    assert await post(settings(office, to=to)) == Accepted(["one@example.org", "two@example.org"])
    [mail] = office.mails
    assert (mail.sender, mail.recipients) == ("mailing@reports.example.org", ["one@example.org", "two@example.org"])
    message = mail.message
    assert message["Subject"] == MAIL.subject
    assert message["To"] == "one@example.org, two@example.org"
    assert message["From"] == "mailing@reports.example.org"
    assert message["Message-ID"] == f"<{MAIL.message_id}@reports.example.org>"
    assert message["Date"].datetime == MAIL.date
    assert message["Auto-Submitted"] == "auto-generated"
    assert message.get_content_type() == "multipart/mixed"
    assert mail.body("plain").splitlines() == MAIL.text.splitlines()
    assert mail.body("html").strip() == MAIL.html
    [table] = message.iter_attachments()
    assert (table.get_content_type(), table.get_filename()) == ("text/csv", "mailings-2024-01-05.csv")
    assert table.get_payload(decode=True) == MAIL.table.encode()
    assert not message.defects


async def test_a_long_domain_leaves_the_message_id_whole(office: PostOffice) -> None:
    domain = ".".join(["mail"] * 30)
    await post(replace(settings(office), report_from=f"mailing@{domain}"))
    assert office.mails[0].message["Message-ID"].strip() == f"<{MAIL.message_id}@{domain}>"


@pytest.mark.parametrize("line_break", ["\r\n", "\n", "\r", "\x0b", "\x00", "\x85", "\u2028"])
async def test_a_line_break_in_a_header_is_refused_before_anything_is_sent(office: PostOffice, line_break: str) -> None:
    injected = f"x{line_break}Bcc: thief@example.org"
    bad = settings(office)
    for outcome in (
        await post(bad, replace(MAIL, subject=injected)),
        await post(bad, replace(MAIL, message_id=injected)),
        await post(replace(bad, report_from=f"mailing@example.org{line_break}Bcc:thief@example.org")),
        await post(replace(bad, report_to=f"ops@example.org{line_break}Bcc:thief@example.org")),
    ):
        assert isinstance(outcome, PermanentFailure)
        assert "control character" in outcome.reason
    assert office.conversations == 0


async def test_greylisting_is_temporary_and_the_next_try_arrives(office: PostOffice) -> None:
    office.recipient_answers = ["451 4.7.1 Greylisted, try again later"]
    refused = await post(settings(office))
    assert refused == TemporaryFailure("ops@example.org: 451 4.7.1 Greylisted, try again later")
    assert await post(settings(office)) == Accepted(["ops@example.org"])


async def test_a_refused_recipient_is_a_permanent_failure(office: PostOffice) -> None:
    office.recipient_answers = ["550 5.1.1 No such user"]
    assert await post(settings(office)) == PermanentFailure("ops@example.org: 550 5.1.1 No such user")


async def test_a_refused_text_is_a_permanent_failure(office: PostOffice) -> None:
    office.data_answers = ["554 5.7.1 Looks like spam"]
    assert await post(settings(office)) == PermanentFailure("the mail server answered 554 5.7.1 Looks like spam")


async def test_one_recipient_who_is_refused_for_good_keeps_the_mail_from_nobody_else(office: PostOffice) -> None:
    office.recipient_answers = ["550 gone", "250 OK"]
    outcome = await post(settings(office, to="gone@example.org,ops@example.org"))
    assert outcome == Accepted(["ops@example.org"], "gone@example.org: 550 gone")


async def test_one_recipient_who_has_to_wait_is_told_apart_from_those_who_have_it(office: PostOffice) -> None:
    office.recipient_answers = ["250 OK", "451 later", "550 gone"]
    outcome = await post(settings(office, to="ops@example.org,slow@example.org,gone@example.org"))
    assert outcome == PartlyAccepted(["ops@example.org"], "slow@example.org: 451 later; gone@example.org: 550 gone")


async def test_a_connection_cut_after_the_text_is_a_temporary_failure(office: PostOffice) -> None:
    office.data_answers = [DROP]
    assert isinstance(await post(settings(office)), TemporaryFailure)


async def test_a_server_that_is_down_is_a_temporary_failure() -> None:
    async with open_post_office() as office:
        chosen = settings(office)
    outcome = await post(chosen)
    assert isinstance(outcome, TemporaryFailure)
    assert "no connection to the mail server" in outcome.reason


async def test_a_server_whose_first_address_does_not_answer_gets_the_mail_at_the_next(
    office: PostOffice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smtp, "CONNECT_TIMEOUT", 2.0)
    with ExitStack() as sockets:
        hole = sockets.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):  # its queue is full, so the kernel leaves further connections without an answer
            waiting = sockets.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(hole.getsockname())

        async def addresses(*_: object, **__: object) -> list[tuple[object, ...]]:
            how = (socket.AF_INET, socket.SOCK_STREAM, 0, "")
            return [(*how, hole.getsockname()), (*how, ("127.0.0.1", office.port))]

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", addresses)
        named = replace(settings(office), smtp_host="mail.example.org")
        assert await post(named) == Accepted(["ops@example.org"])


async def test_a_server_that_never_speaks_is_left_at_the_deadline() -> None:
    async def silence(*_: object) -> None:
        await asyncio.sleep(60)

    async with serving(silence) as port:
        outcome = await post(settings(PostOffice(port=port)), seconds=0.1)
    assert outcome == TemporaryFailure("no connection to the mail server: timed out")


async def test_a_passed_deadline_lets_nothing_out(office: PostOffice) -> None:
    assert isinstance(await post(settings(office), seconds=-1), TemporaryFailure)
    assert office.conversations == 0


async def test_without_starttls_offered_nothing_is_sent_where_it_is_required(office: PostOffice) -> None:
    outcome = await post(settings(office, starttls=True))
    assert outcome == PermanentFailure("SMTP STARTTLS extension not supported by server.")
    assert office.conversations == 0


async def test_required_starttls_encrypts_and_checks_the_certificate() -> None:
    trusting = ssl.create_default_context(cafile=CERTIFICATE)
    async with open_post_office(tls=True) as office:
        assert await post(settings(office, starttls=True), tls=trusting) == Accepted(["ops@example.org"])
        assert office.encrypted == [True]
        outcome = await post(settings(office, starttls=True))
        assert isinstance(outcome, TemporaryFailure)
        assert "certificate" in outcome.reason.lower()
        assert len(office.mails) == 1


async def test_encryption_that_is_offered_but_not_required_is_taken_with_any_certificate() -> None:
    async with open_post_office(tls=True) as office:
        assert await post(settings(office)) == Accepted(["ops@example.org"])
        assert office.encrypted == [True]


async def test_user_and_password_are_shown_to_the_server_and_to_nobody_else() -> None:
    async with open_post_office(tls=True, auth=True) as office:
        chosen = replace(settings(office), smtp_user=USER, smtp_password=PASSWORD)
        assert await post(chosen) == Accepted(["ops@example.org"])
        outcome = await post(replace(chosen, smtp_password="the wrong secret"))
        assert outcome == PermanentFailure("the mail server rejected user and password: 535")
        assert isinstance(await post(settings(office)), PermanentFailure)
        assert len(office.mails) == 1


async def test_a_reason_is_one_short_printable_line(office: PostOffice) -> None:
    office.data_answers = ["554-first\r\n554 second \x1b[31m" + "x" * 400]
    outcome = await post(settings(office))
    assert isinstance(outcome, PermanentFailure)
    assert outcome.reason.startswith("the mail server answered 554 first second [31mxxx")
    assert outcome.reason.isprintable()
    assert len(outcome.reason) == 300


async def test_addresses_beyond_ascii_travel_where_the_server_can(office: PostOffice) -> None:
    assert await post(settings(office, to="отчёт@example.org")) == Accepted(["отчёт@example.org"])
    assert office.mails[0].recipients == ["отчёт@example.org"]
