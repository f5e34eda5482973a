"""One call, against servers that answer well, badly, late, endlessly or not at all."""

import asyncio
import gzip
import json

import pytest

from mailing.gateway.client import MAX_BODY_BYTES, GatewayClient
from mailing.gateway.outcome import Answer, Outcome
from mailing.gateway.providers.probe import Probe
from mailing.reasons.codes import ReasonCode
from mailing.settings import Settings
from support.gateway_calls import Request, answering, calling, read_request, send

OK_BODY = b'{"code":0,"message":"OK"}'
OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/json\r\nContent-Length: 25\r\n\r\n" + OK_BODY


async def test_a_call_is_what_the_gateway_documents() -> None:
    seen: list[Request] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            seen.append(await read_request(reader))
            writer.write(OK.replace(b"\r\n\r\n", b"\r\nSet-Cookie: session=1\r\n\r\n"))

    async with calling(handler) as client:
        assert await send(client, 2**63 - 1) == Answer(Outcome.accepted, 200, 0)
        assert await send(client, 8) == Answer(Outcome.accepted, 200, 0)
    line, *headers = seen[0].head.split(b"\r\n")
    assert line == b"POST /v1/send/9223372036854775807 HTTP/1.1"
    assert {*headers} >= {
        *(b"Authorization: Bearer a.secret.token", b"Content-Type: application/json", b"Accept-Encoding: identity")
    }
    assert json.loads(seen[0].body) == {"id": 2**63 - 1, "phone": 79161234567, "text": "Привет, мир"}
    assert b"cookie" not in seen[1].head.lower()


WHOLE = [
    (OK, Outcome.accepted),
    (b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"cod\r\n5\r\ne":0}\r\n0\r\n\r\n', Outcome.accepted),
    (b"HTTP/1.0 200 OK\r\n\r\n" + OK_BODY, Outcome.accepted),
    (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, Outcome.accepted),
    (OK.replace(b"200 OK", b"200 \xff\xfe"), Outcome.accepted),
    (OK.replace(b"200 OK", b"200"), Outcome.accepted),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 65536\r\n\r\n" + OK_BODY.ljust(MAX_BODY_BYTES), Outcome.accepted),
    (b"HTTP/1.1 409 Conflict\r\nContent-Length: 0\r\n\r\n", Outcome.accepted),
    (b'HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{"code":3}', Outcome.soft_refusal),
    (b'HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\n{"code":0,"id":8}', Outcome.ambiguous),
    (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", Outcome.refused),
    (b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n", Outcome.configuration),
    (b"HTTP/1.1 408 Late\r\nContent-Length: 0\r\n\r\n", Outcome.not_sent),
    (b"HTTP/1.1 429 Slow\r\nContent-Length: 0\r\n\r\n", Outcome.throttled),
    (b"HTTP/1.1 503 Busy\r\nRetry-After: 3\r\nContent-Length: 0\r\n\r\n", Outcome.throttled),
    (b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", Outcome.ambiguous),
    (b"HTTP/1.1 204 No Content\r\n\r\n", Outcome.ambiguous),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>", Outcome.ambiguous),
]
BROKEN = {
    "nothing": b"",
    "half a status line": b"HTTP/1.1 20",
    "no end of the head": b"HTTP/1.1 200 OK\r\nContent-Length: 25\r\n",
    "half a body": OK[:-10],
    "no body": OK[:-25],
    "too short a content length": OK.replace(b"Length: 25", b"Length: 12"),
    "too long a content length": OK.replace(b"Length: 25", b"Length: 26"),
    "a content length that is no number": OK.replace(b"Length: 25", b"Length: many"),
    "a negative content length": OK.replace(b"Length: 25", b"Length: -25"),
    "two content lengths": OK.replace(b"\r\n\r\n", b"\r\nContent-Length: 10\r\n\r\n"),
    "a chunk size that is no number": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n{}\r\n0\r\n\r\n",
    "a chunk longer than it says": b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{"code":0}\r\n0\r\n\r\n',
    "no last chunk": b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\n{"code":0}\r\n',
    "another protocol": b"SSH-2.0-OpenSSH_9.6\r\n",
    "noise": bytes(range(256)),
    "a head without an end": b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000,
    "too many headers": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000 + b"Content-Length: 25\r\n\r\n" + OK_BODY,
    "a NUL in a header": OK.replace(b"text/json", b"text/\x00json"),
    "a change of protocol": b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n" + OK,
    "a compressed body": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + gzip.compress(OK_BODY),
    "a bomb": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + gzip.compress(bytes(10_000_000)),
    "one byte too many": b"HTTP/1.1 200 OK\r\nContent-Length: 65537\r\n\r\n" + OK_BODY.ljust(MAX_BODY_BYTES + 1),
}


@pytest.mark.parametrize(("raw", "outcome"), WHOLE, ids=[repr(raw[9:50]) for raw, _ in WHOLE])
async def test_a_whole_answer_is_classified(raw: bytes, outcome: Outcome) -> None:
    async with calling(answering(raw)) as client:
        assert (await send(client)).outcome is outcome


@pytest.mark.parametrize("raw", BROKEN.values(), ids=BROKEN.keys())
async def test_an_answer_that_is_broken_or_too_long_is_ambiguous(raw: bytes) -> None:
    async with calling(answering(raw), timeout_s=2.0) as client:
        answer = await send(client)
    assert answer.outcome is Outcome.ambiguous
    assert answer.reason


async def test_retry_after_is_handed_on() -> None:
    raw = b"HTTP/1.1 429 Slow\r\nretry-after: 42\r\nContent-Length: 0\r\n\r\n"
    async with calling(answering(raw)) as client:
        assert await send(client) == Answer(Outcome.throttled, 429, None, ReasonCode.http_status, 42.0)


@pytest.mark.parametrize(
    "base_url",
    [
        *("", "host", "ftp://host", "http://", "http:///v1", "http://user:pass@host/v1", "http://host/v1?x=1"),
        *("http://host/v1#x", "http://host:0", "http://host:65536", "http://host:x", "http://a..b"),
        f"http://{'a' * 64}.example",
    ],
)
def test_an_address_that_cannot_be_called_is_refused_at_once(base_url: str) -> None:
    with pytest.raises(ValueError, match="address must be http"):
        GatewayClient(Probe(Settings()), base_url=base_url, timeout_s=1, concurrency=1)


@pytest.mark.parametrize("token", ["", "two words", "line\nbreak", "токен"])
def test_a_token_that_fits_no_header_is_refused_and_not_shown(token: str) -> None:
    with pytest.raises(ValueError, match="must be visible ASCII") as refusal:
        Probe(Settings(gateway_token=token))
    assert token == "" or token not in str(refusal.value)
