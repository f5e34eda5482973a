"""Every parser of a stranger's bytes does a bounded amount of work for each of them.

The processor time for a few bytes is compared with that for eight times as many: linear work takes eight times as long,
quadratic work 64 times.
"""

import asyncio
import re
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, get_args

import msgspec
import pytest
from joserfc.errors import JoseError
from joserfc.jwk import KeySet, RSAKey
from litestar._multipart import parse_content_header, parse_multipart_form
from litestar._parsers import parse_cookie_string, parse_query_string, parse_url_encoded_form_data
from litestar.exceptions import ClientException

from mailing.access.id_token import OidcClient, UnknownKey, identity, verify
from mailing.access.oidc import Metadata
from mailing.access.roles import Role
from mailing.admin.clients.form import MAX_LENGTH, parse_search
from mailing.admin.language import preferred
from mailing.admin.signin.user_agents import describe
from mailing.admin.viewer import Viewer, local_path
from mailing.clients import timezone
from mailing.clients.csv_reader import CsvReader
from mailing.clients.phone import is_operator_code, is_phone, normalised_phone
from mailing.clients.schemas import ClientIn
from mailing.clients.tag import is_tag
from mailing.clients.upload.preview import preview
from mailing.csv_writer import csv_of, escape_formula, unescape_formula
from mailing.errors import Invalid
from mailing.gateway.outcome import Response
from mailing.gateway.providers import provider_of
from mailing.gateway.providers.probe import classify
from mailing.gateway.providers.receipt import Forged, ReceiptRequest
from mailing.mailings.schemas import MailingIn
from mailing.observability.masking import Masking, mask_addresses
from mailing.receipts.address import message_of
from mailing.receipts.opt_out_words import opt_out_word, opt_out_words
from mailing.settings import ProviderName, Settings
from mailing.web.header_limits import own_cookies
from mailing.web.idempotency import PATTERN
from mailing.web.validation import parse

FACTOR = 8
MOST = 3 * FACTOR
NOISE_S = 0.002


def assert_linear(work: Callable[[Any], object], made: Callable[[int], Any], size: int) -> None:
    few, many = made(size), made(FACTOR * size)
    once = min(_timed(work, few) for _ in range(4))
    often = 0.0
    assert any((often := _timed(work, many)) < MOST * once + NOISE_S for _ in range(4)), (
        f"{often:.4f} s for {FACTOR} times what takes {once:.4f} s"
    )


def _timed(work: Callable[[Any], object], value: Any) -> float:  # noqa: ANN401 - what the parser takes
    """Return the processor time of this thread; other processes do not lengthen it."""
    began = time.thread_time()
    work(value)
    return time.thread_time() - began


def refusing(work: Callable[[Any], object], *errors: type[Exception]) -> Callable[[Any], None]:
    """Do the work, which may refuse the value by one of these errors."""

    def judged(value: Any) -> None:  # noqa: ANN401 - what the parser takes
        with suppress(*errors):
            work(value)

    return judged


def repeated(sign: str) -> Callable[[int], str]:
    return lambda size: sign * (size // len(sign))


# --- CSV ------------------------------------------------------------------------------------------------------------

HEADER = b"phone,operator_code,tag,timezone\n"
LINES = {
    "good rows": b"79161234567,916,vip,Europe/Moscow\n",
    "quotes alone": b'"\n',
    "quotes that never close": b'"a""\n',
    "a quote that closes and another that opens": b'a",b"c,"d\n',
    "quotes closed by something else": b'"a"b\n',
    "an even number of quotes, the last open": b'a"b,"c\n',
    "a quote and many lines": b'"\n' + 500 * b"\n",
    "a quote and lines with whole cells": b'",\n' + 50 * b'"a","b"\n',
    "commas": b",\n",
    "many cells": 2000 * b"x," + b"\n",
    "carriage returns": b'"\r",\r\n',
    "bad rows": b"x,y,\x01,UTC+3\n",
    "bytes that are no UTF-8": b"\xff,\xfe\n",
}


def read_by(piece: int) -> Callable[[bytes], object]:
    def read(file: bytes) -> None:
        reading = CsvReader()
        for start in range(0, len(file), piece):
            reading.feed(file[start : start + piece])
        reading.finish()

    return refusing(read, Invalid)


@pytest.mark.parametrize("line", LINES.values(), ids=LINES.keys())
@pytest.mark.parametrize(
    ("work", "size"),
    [
        (read_by(16 * 1024), 24_000),
        (read_by(2), 6_000),  # what waits is not read again for each crumb
        (lambda file: preview(file, complete=False), 24_000),
    ],
    ids=["in pieces", "in crumbs", "as a preview"],
)
def test_a_file_is_judged_in_time_proportional_to_its_bytes(
    work: Callable[[bytes], object], size: int, line: bytes
) -> None:
    assert_linear(work, lambda size: HEADER + line * (size // len(line) + 1), size)


@pytest.mark.parametrize("header", [b"phone,", b"x,", b",", b'"', b'"a",', b'"phone"x', b"\xff", b" "], ids=repr)
def test_a_header_is_read_in_time_proportional_to_its_bytes(header: bytes) -> None:
    assert_linear(read_by(16 * 1024), lambda size: header * (size // len(header)) + b"\n", 7_000)


@pytest.mark.parametrize("header", [b"phone,", b"x,"])
def test_a_header_without_end_gets_a_short_answer(header: bytes) -> None:
    with pytest.raises(Invalid) as refused:
        CsvReader().feed(header * 10_000 + b"\n")
    assert len(refused.value.errors) == 20


# --- values ---------------------------------------------------------------------------------------------------------

SIGNS = (
    *("'", "=", ";=", ";'=", "\t;", '";', "\t", " ", "7", "+", "a"),
    *("ü", '"', "\x00", ";", ",", "-0", "UTC ", "%", "\\", ".", ":"),
)


@pytest.mark.parametrize("sign", SIGNS, ids=repr)
@pytest.mark.parametrize(
    "work",
    [
        *(is_tag, unescape_formula, escape_formula, lambda cell: csv_of([[cell]])),
        *(is_phone, is_operator_code, timezone.suggestion, mask_addresses),
    ],
)
def test_a_value_is_looked_at_in_time_proportional_to_its_length(work: Callable[[str], object], sign: str) -> None:
    assert_linear(work, lambda size: sign * size, 8_000)


VIEWER = Viewer(user=None, language="en", zone="UTC", path="/")


@pytest.mark.parametrize("sign", SIGNS, ids=repr)
@pytest.mark.parametrize("name", ["begins", "tag", "after"])
def test_the_search_looks_at_the_beginning_of_what_was_typed(name: str, sign: str) -> None:
    assert_linear(lambda typed: parse_search({name: typed}, VIEWER), lambda size: sign * size, 8_000)
    assert len(parse_search({"tag": sign * 8_000}, VIEWER).search.tag) <= MAX_LENGTH


# --- heads ----------------------------------------------------------------------------------------------------------


def cookies(given: str) -> dict[str, str]:
    """As a page sees them."""
    return parse_cookie_string.__wrapped__(own_cookies(given.encode()).decode())


HEADS: dict[str, tuple[Callable[[Any], object], Iterable[str]]] = {
    "Accept-Language": (preferred, ["a,", ",", ";", "ru-", "de;q=0.1, ", "-"]),
    "Cookie": (cookies, ["\\", '\\"', "\\0", "mailing_a=\\0;", "mailing_a=b;", ";", "=", "%41"]),
    "User-Agent": (describe, ["Firefox", "Edg", "(", " "]),
    "Content-Type": (parse_content_header, ['\\"', '\\" ', "; ", "; a", "; a=b", '; a="', "; a=\\"]),
    "next": (local_path, ["/admin/", "/", "\\", "?", "я", "%2f", ":"]),
    "what is logged": (Masking(["secret"]).mask, ["://:", "bearer ", "7", "a", ":", "0f", "mk_", "://a:a@", "@"]),
    "e-mail addresses": (mask_addresses, ["a", "a@", "a@b ", "."]),
    "Idempotency-Key": (re.compile(PATTERN).fullmatch, ["a", "é"]),
}


@pytest.mark.parametrize(("name", "sign"), [(name, sign) for name, (_, signs) in HEADS.items() for sign in signs])
def test_a_head_is_read_in_time_proportional_to_its_length(name: str, sign: str) -> None:
    work = getattr(HEADS[name][0], "__wrapped__", HEADS[name][0])
    beginning = {"Cookie": 'mailing_a="', "Content-Type": "multipart/form-data", "next": "/admin/"}.get(name, "")
    assert_linear(work, lambda size: beginning + repeated(sign)(size), 8_000)


@pytest.mark.parametrize("sign", ["a&", "a=b&", "&", "%41=%", "a[]=1&", "+", ";", "=", "%e9&"])
@pytest.mark.parametrize("work", [parse_query_string.__wrapped__, parse_url_encoded_form_data])
def test_a_query_and_a_form_are_read_in_time_proportional_to_their_length(
    work: Callable[[bytes], object], sign: str
) -> None:
    assert_linear(work, lambda size: repeated(sign)(size).encode(), 8_000)


# --- bodies ---------------------------------------------------------------------------------------------------------

PART = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n'
PARTS = {
    "a file of line breaks": PART + b"\r\n" + b"\r\n",
    "a file of dashes": PART + b"\r\n" + b"\r\n--",
    "a file of beginnings of a boundary": PART + b"\r\n" + b"\r\n--bb",
    "a field of dashes": b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\n' + b"\r\n-",
    "a head of lines": PART + b"a: b\r\n",
    "a head of one line": PART + b"a" * 7,
    "nothing but the beginning": b"\r\n-",
    "boundaries": b"--b\r\n",
}


def multipart(piece: int) -> Callable[[bytes], object]:
    async def stream(body: bytes) -> AsyncGenerator[bytes, None]:
        for start in range(0, len(body), piece):
            yield body[start : start + piece]

    return refusing(lambda body: asyncio.run(parse_multipart_form(stream(body), b"b")), ClientException)


@pytest.mark.parametrize("begun", PARTS.values(), ids=PARTS.keys())
def test_a_form_with_a_file_is_read_in_time_proportional_to_its_bytes(begun: bytes) -> None:
    first, again = begun[:-7], begun[-7:]
    for piece, size in ((64 * 1024, 400_000), (7, 8_000)):
        assert_linear(multipart(piece), lambda length: first + again * (length // len(again)), size)


JSON: dict[str, Callable[[int], str]] = {
    "unknown fields": lambda count: "{" + ",".join(f'"f{n}":1' for n in range(count)) + "}",
    "one field again and again": lambda count: "{" + ",".join(['"phone":1'] * count) + "}",
    "a long text": lambda count: '{"text":"' + "a" * (8 * count) + '"}',
    "escapes": lambda count: '{"text":"' + "\\u00e9" * count + '"}',
    "a long phone": lambda count: '{"phone":"' + "7" * (8 * count) + '"}',
    "blanks": lambda count: '{"text":"' + " " * (8 * count) + '"}',
    "depth": lambda count: '{"filter":' + "[" * (8 * count),
    "many tags": lambda count: '{"filter":{"tags":[' + ",".join(['""'] * count) + "]}}",
    "many codes": lambda count: '{"filter":{"operator_codes":[' + ",".join(["null"] * count) + "]}}",
    "a number": lambda count: '{"text":' + "9" * (8 * count) + "}",
    "nothing": lambda count: " " * (8 * count),
    "an offset": lambda count: '{"timezone":"UTC+' + "0" * (8 * count) + '"}',
}


@pytest.mark.parametrize("made", JSON.values(), ids=JSON.keys())
@pytest.mark.parametrize("kind", [ClientIn, MailingIn])
def test_json_is_judged_in_time_proportional_to_its_bytes(
    made: Callable[[int], str], kind: type[msgspec.Struct]
) -> None:
    work = refusing(lambda body: parse(body, kind), Invalid)
    assert_linear(work, lambda size: made(size).encode(), 3_000)


# --- answers of others ----------------------------------------------------------------------------------------------

NOW = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("made", JSON.values(), ids=JSON.keys())
@pytest.mark.parametrize("status", [200, 400, 429])
def test_the_gateway_s_answer_is_read_in_time_proportional_to_its_bytes(
    made: Callable[[int], str], status: int
) -> None:
    assert_linear(lambda body: classify(Response(status, body, None, NOW), 1), lambda size: made(size).encode(), 1_000)


@pytest.mark.parametrize("sign", ["1", "1.", "-", ", ", "Mon, 1 Jan 2030 00:00:00 GMT", "(", ":", "+0000 ", '"', "\\"])
def test_retry_after_is_read_in_time_proportional_to_its_length(sign: str) -> None:
    assert_linear(lambda told: classify(Response(429, b"", told, NOW), 1), repeated(sign), 1_000)


SETTINGS = {"gateway_user": f"AC{'0' * 32}", "gateway_token": "token", "sender": "Shop"}
SMS_PROVIDERS = {
    name: provider_of(Settings(gateway_provider=name, **SETTINGS))  # type: ignore[arg-type] # a name of the table
    for name in get_args(ProviderName)
}
REPORTED = '{"messageId":"0123456789-7-0","status":{"groupId":3,"id":5}},'
NESTED = '{"from":"7","text":"STOP","status":{"groupId":1,"id":[[[[{}]]]]},"doneAt":[[1]],"error":{"name":"x"}},'
REPORTS: dict[str, Callable[[int], str]] = {
    **JSON,
    "many receipts": lambda count: '{"results":[' + (REPORTED * count).rstrip(",") + "]}",
    "many odd results": lambda count: '{"results":[' + (NESTED * count).rstrip(",") + "]}",
    "a long id": lambda count: '{"results":[{"messageId":"' + "0" * (8 * count) + '","status":{"groupId":1}}]}',
    "a long time": lambda count: f'{{"results":[{REPORTED[:-2]},"doneAt":"{"20" * (4 * count)}"}}]}}',
    "one field again": lambda count: "id=1&" * count,
    "many fields": lambda count: "&".join(f"f{n}=1" for n in range(count)),
    "percent signs": lambda count: "state=%&reply=" + "%25%" * count,
    "a long form": lambda count: "MessageStatus=sent&Body=" + "+" * (8 * count),
    "an SMSC's words": lambda count: "state=2&reply=" + "stat:a+" * count,
    "blanks after a status": lambda count: "state=2&reply=stat:a" + "+" * (8 * count),
}


@pytest.mark.parametrize("made", REPORTS.values(), ids=REPORTS.keys())
@pytest.mark.parametrize("name", SMS_PROVIDERS)
def test_a_receipt_and_a_reply_are_read_in_time_proportional_to_their_bytes(
    name: str, made: Callable[[int], str]
) -> None:
    provider = SMS_PROVIDERS[name]

    def parsed(sent: str) -> None:
        for request in (ReceiptRequest(sent, b""), ReceiptRequest("", sent.encode())):
            with suppress(Forged):
                provider.parse_receipts(request)
            provider.parse_replies(request)

    assert_linear(parsed, made, 500)


@pytest.mark.parametrize("made", REPORTS.values(), ids=REPORTS.keys())
@pytest.mark.parametrize("status", [202, 400])
@pytest.mark.parametrize("name", SMS_PROVIDERS)
def test_each_provider_s_answer_is_read_in_time_proportional_to_its_bytes(
    name: str, status: int, made: Callable[[int], str]
) -> None:
    assert_linear(
        lambda body: SMS_PROVIDERS[name].classify(Response(status, body, "1", NOW), 7),
        lambda size: made(size).encode(),
        500,
    )


WORDS = opt_out_words("STOP,СТОП")


@pytest.mark.parametrize("sign", [*SIGNS, "\ufdfa", "\u0301", "İ"], ids=repr)
@pytest.mark.parametrize(
    "work",
    [
        normalised_phone,
        lambda text: opt_out_word(text, WORDS),
        lambda path: message_of(path, key=b"k", provider="probe"),
        lambda path: message_of(f"/receipts/{path}", key=b"k", provider="probe"),
    ],
    ids=["phone", "opt-out word", "path", "address of a receipt"],
)
def test_what_a_provider_sends_is_looked_at_in_time_proportional_to_its_length(
    work: Callable[[str], object], sign: str
) -> None:
    assert_linear(refusing(work, ValueError), lambda size: sign * size, 8_000)


PROVIDER = OidcClient(
    issuer="https://id", client_id="c", client_secret=None, groups_claim="groups", roles={"ops": Role.ADMIN}
)


@pytest.mark.parametrize(
    "made",
    [
        lambda size: {"sub": "1", "groups": ["x"] * size},
        lambda size: {"sub": "\x00" * size, "groups": ["ops"]},
        lambda size: {"sub": "1", "groups": ["ops"], "name": " " * size},
    ],
)
def test_claims_are_read_in_time_proportional_to_their_length(made: Callable[[int], Mapping[str, Any]]) -> None:
    assert_linear(lambda claims: identity(claims, PROVIDER), made, 8_000)


@pytest.mark.parametrize("sign", ["a", ".", "e30.", "=", "\\", "é"])
def test_an_id_token_is_read_in_time_proportional_to_its_length(sign: str) -> None:
    keys = KeySet([RSAKey.generate_key(2048)])
    work = refusing(
        lambda token: verify(token, keys, client=PROVIDER, nonce="n", now=0), JoseError, UnknownKey, ValueError
    )
    assert_linear(work, lambda size: "eyJhbGciOiJSUzI1NiJ9." + sign * size, 8_000)


@pytest.mark.parametrize("made", JSON.values(), ids=JSON.keys())
def test_the_provider_s_json_is_read_in_time_proportional_to_its_bytes(made: Callable[[int], str]) -> None:
    work = refusing(lambda body: msgspec.json.decode(body, type=Metadata), msgspec.DecodeError, RecursionError)
    assert_linear(work, lambda size: made(size).encode(), 3_000)
