"""A certificate that is not the gateway's ends the call before the token is told to anyone."""

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from mailing.gateway.outcome import Answer, Outcome
from mailing.reasons.codes import ReasonCode
from support.gateway_calls import MakeGateway, Send, StartServer

OPENSSL = shutil.which("openssl")
pytestmark = pytest.mark.skipif(OPENSSL is None, reason="no openssl command here to make certificates with")


@pytest.fixture(scope="module")
def make_certificate(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Make a self-signed certificate, its key in the same file; one of -1 days ended yesterday."""

    def make(*, name: str = "IP:127.0.0.1", days: int = 1) -> Path:
        folder = tmp_path_factory.mktemp("tls")
        (folder / "names").write_text(f"subjectAltName={name}\n")
        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=test")
        openssl(folder, "req", "-new", *curve, "-keyout", "key", "-out", "request")
        validity = ("-days", str(days), "-extfile", "names")
        openssl(folder, "x509", "-req", "-in", "request", "-signkey", "key", *validity, "-out", "certificate")
        chain = folder / "chain"
        chain.write_bytes((folder / "certificate").read_bytes() + (folder / "key").read_bytes())
        return chain

    return make


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run([str(OPENSSL), *arguments], cwd=folder, check=True, capture_output=True)  # noqa: S603 - fixed arguments


def server_side(certificate: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    return context


class Server:
    def __init__(self) -> None:
        self.heard = b""

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heard += await reader.readuntil(b"\r\n\r\n")
        writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{"code":0}')
        await writer.drain()


async def test_a_trusted_certificate_of_the_right_name_is_called(
    start_server: StartServer,
    gateway: MakeGateway,
    send: Send,
    make_certificate: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    certificate = make_certificate()
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    port = await start_server(Server().handle, tls=server_side(certificate))
    async with gateway(port, scheme="https") as client:
        assert (await send(client)).outcome is Outcome.accepted


@pytest.mark.parametrize(
    "case",
    [("IP:127.0.0.1", 1, "unknown"), ("DNS:other.example", 1, "trusted"), ("IP:127.0.0.1", -1, "trusted")],
    ids=["self-signed", "wrong host", "expired"],
)
async def test_a_certificate_that_is_not_valid_is_told_nothing(
    start_server: StartServer,
    gateway: MakeGateway,
    send: Send,
    make_certificate: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    case: tuple[str, int, str],
) -> None:
    name, days, issuer = case
    certificate = make_certificate(name=name, days=days)
    if issuer == "trusted":
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    server = Server()
    port = await start_server(server.handle, tls=server_side(certificate))
    async with gateway(port, scheme="https") as client:
        assert await send(client) == Answer(Outcome.not_sent, reason=ReasonCode.invalid_certificate)
    assert server.heard == b""


async def test_a_server_without_tls_is_not_sent(start_server: StartServer, gateway: MakeGateway, send: Send) -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with gateway(await start_server(plain), scheme="https") as client:
        assert await send(client) == Answer(Outcome.not_sent, reason=ReasonCode.tls_failed)


async def test_a_handshake_that_never_ends_is_not_sent(
    start_server: StartServer, gateway: MakeGateway, send: Send
) -> None:
    async def silent(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        await asyncio.sleep(3600)

    async with gateway(await start_server(silent), scheme="https", timeout_s=0.2) as client:
        assert await send(client) == Answer(Outcome.not_sent, reason=ReasonCode.no_connection, facts={"within_s": 0.2})
