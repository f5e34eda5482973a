"""The development mail server of docker-compose.yml, as a process."""

import smtplib
import subprocess
import sys
from collections.abc import Iterator
from email.message import EmailMessage

import httpx
import pytest

from mailing.process.ports import free_port
from support import ROOT

CATCHER = ROOT / "deploy" / "mail" / "catcher.py"


@pytest.fixture
def ports() -> Iterator[tuple[int, int]]:
    """SMTP and HTTP."""
    smtp, http = free_port(), free_port()
    argv = [sys.executable, str(CATCHER), f"--smtp-port={smtp}", f"--http-port={http}"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:  # noqa: S603 - ours
        assert process.stdout
        assert b"mail server" in process.stdout.readline()
        yield smtp, http
        process.terminate()
    assert process.returncode == 0


def test_a_mail_is_shown_in_the_list_as_its_reader_sees_it_as_text_and_as_source(ports: tuple[int, int]) -> None:
    mail = EmailMessage()
    mail["Subject"], mail["From"], mail["To"] = "Отчёт <1>", "mailing@localhost", "ops@example.org"
    mail.set_content("Отправлено: 7", cte="quoted-printable")
    mail.add_alternative("<p>Отправлено: <b>7</b></p><script>1</script>", subtype="html", cte="quoted-printable")
    with smtplib.SMTP("127.0.0.1", ports[0], timeout=10) as smtp:
        smtp.send_message(mail)
    with httpx.Client(base_url=f"http://127.0.0.1:{ports[1]}", timeout=10) as browser:
        listed, shown, plain, source = (browser.get(path) for path in ("/", "/1", "/1.txt", "/1.eml"))
        missing = browser.get("/2")
    assert "Отчёт &lt;1&gt;" in listed.text
    assert "ops@example.org" in listed.text
    assert "<b>7</b>" in shown.text
    assert shown.headers["Content-Security-Policy"].startswith("sandbox;"), "a mail's script does not run"
    assert plain.text.strip() == "Отправлено: 7"
    assert "quoted-printable" in source.text
    assert missing.status_code == 404
