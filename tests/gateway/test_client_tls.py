"""A certificate that is not the gateway's ends the call before the token is told to anyone."""

import asyncio
import ssl
from pathlib import Path

import pytest

from mailing.gateway.outcome import Answer, Outcome
from mailing.reasons.codes import ReasonCode
from support.gateway_calls import OK, Request, answering, calling, send
from support.mail_server import CERTIFICATE
from support.tls import Authority


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    """The only one that this process trusts."""
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
    return authority


def served_with(certificate: Path, key: Path | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    return context


async def test_a_trusted_certificate_of_the_right_name_is_called(authority: Authority) -> None:
    tls = served_with(*authority.sign("gateway", "127.0.0.1"))
    async with calling(answering(OK), tls=tls, scheme="https") as client:
        assert (await send(client)).outcome is Outcome.accepted


@pytest.mark.parametrize("case", ["self-signed", "wrong host", "expired"])
async def test_a_certificate_that_is_not_valid_is_told_nothing(authority: Authority, case: str) -> None:
    tls = {
        "self-signed": served_with(CERTIFICATE),
        "wrong host": served_with(*authority.sign("elsewhere", "other.example")),
        "expired": served_with(*authority.sign("expired", "127.0.0.1", days=-1)),
    }[case]
    requests: list[Request] = []
    async with calling(answering(OK, requests), tls=tls, scheme="https") as client:
        assert await send(client) == Answer(Outcome.not_sent, reason=ReasonCode.invalid_certificate)
    assert requests == []


async def test_a_server_without_tls_is_not_sent() -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with calling(plain, scheme="https") as client:
        assert await send(client) == Answer(Outcome.not_sent, reason=ReasonCode.tls_failed)


async def test_a_handshake_that_never_ends_is_not_sent() -> None:
    async def silent(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        await asyncio.sleep(3600)

    async with calling(silent, scheme="https", timeout_s=0.2) as client:
        assert await send(client) == Answer(Outcome.not_sent, reason=ReasonCode.no_connection, facts={"within_s": 0.2})
