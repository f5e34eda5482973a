#!/usr/bin/env python3
"""The development mail server: accepts every mail, delivers none, and shows the newest in the browser.

With it the daily report can be looked at before there is a real mail server. Nothing is kept on disk.
"""

import argparse
import signal
import sys
from collections import deque
from email import message_from_bytes, policy
from email.message import EmailMessage
from functools import partial
from html import escape
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import NamedTuple
from urllib.parse import urlsplit

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

KEPT = 200

# A mail is untrusted HTML: it may have styles, but must not run or load anything.
HEADERS = {
    "Content-Security-Policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Mails</title>
<style>body {{ font: 16px/1.5 system-ui; margin: 2rem }} td, th {{ padding-right: 1rem; text-align: left }}</style>
<h1>Mails caught</h1><p>{count} so far, none of them delivered to anybody. The last {kept} are kept.</p>
<table><tr><th>Date<th>To<th>Subject<th>{rows}</table></html>
"""
ROW = """<tr><td>{date}<td>{to}<td><a href="{number}">{subject}</a>
<td><a href="{number}.txt">text</a> <a href="{number}.eml">source</a>"""


class Mail(NamedTuple):
    number: int
    recipients: str
    source: bytes
    message: EmailMessage


class Mailbox:
    """The newest mails, newest first. aiosmtpd's thread adds to it, the pages' threads read copies."""

    def __init__(self) -> None:
        self._numbers = count(1)
        self._mails: deque[Mail] = deque(maxlen=KEPT)

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's name
        source = envelope.original_content or b""
        recipients = ", ".join(envelope.rcpt_tos)
        mail = Mail(next(self._numbers), recipients, source, message_from_bytes(source, policy=policy.default))
        self._mails.appendleft(mail)
        print(f"mail {mail.number} to {recipients}: {mail.message['Subject']}", flush=True)  # noqa: T201 - a command
        return "250 OK"

    def mails(self) -> list[Mail]:
        return list(self._mails)


class Pages(BaseHTTPRequestHandler):
    """Serve `/` (the list), `/7` (a mail as its reader sees it), `/7.txt` (plain text) and `/7.eml` (source)."""

    def __init__(self, mailbox: Mailbox, *args: object) -> None:
        self._mailbox = mailbox
        super().__init__(*args)  # type: ignore[arg-type] # whatever the server passes

    def do_GET(self) -> None:
        page = page_at(urlsplit(self.path).path, self._mailbox.mails())
        content_type, body = page or ("text/plain", "There is no such mail.\n")
        self.send_response(HTTPStatus.OK if page else HTTPStatus.NOT_FOUND)
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", f"{content_type}; charset=utf-8")
        self.end_headers()
        self.wfile.write(body.encode(errors="replace"))

    def log_message(self, *_: object) -> None:
        """Log nothing: health checks would fill the log."""


def page_at(path: str, mails: list[Mail]) -> tuple[str, str] | None:
    """Return content type and text."""
    number, _, form = path.strip("/").partition(".")
    if not number:
        return "text/html", list_of(mails)
    mail = next((mail for mail in mails if str(mail.number) == number), None)
    if mail and form == "eml":
        return "text/plain", mail.source.decode(errors="replace")
    part = mail.message.get_body(("plain",) if form == "txt" else ("html", "plain")) if mail else None
    return (part.get_content_type(), str(part.get_content())) if part else None


def list_of(mails: list[Mail]) -> str:
    return PAGE.format(count=mails[0].number if mails else 0, kept=KEPT, rows="\n".join(map(row_of, mails)))


def row_of(mail: Mail) -> str:
    date, subject = mail.message["Date"], mail.message["Subject"]
    return ROW.format(
        number=mail.number,
        date=escape(str(date or "")),
        to=escape(mail.recipients),
        subject=escape(str(subject or "(no subject)")),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--smtp-port", type=int, default=1025)
    parser.add_argument("--http-port", type=int, default=8025)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    mailbox = Mailbox()
    smtp = Controller(mailbox, hostname=options.host, port=options.smtp_port)
    with ThreadingHTTPServer((options.host, options.http_port), partial(Pages, mailbox)) as http:
        smtp.start()
        print(f"mail server: smtp://{options.host}:{options.smtp_port}, http://{options.host}:{options.http_port}/")  # noqa: T201 - a command
        sys.stdout.flush()
        http.serve_forever()


if __name__ == "__main__":
    main()
