"""Every parser of a stranger's bytes does a bounded amount of work for each of them.

The processor time for a few bytes is compared with that for eight times as many: linear work takes eight times as long,
quadratic work 64 times.
"""

import asyncio
import re
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache, partial
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
from mailing.gateway.providers.provider import Provider
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

Work = Callable[[Any], object]
Made = Callable[[int], Any]
"""What a parser is given, of a size."""


def refusing(work: Work, *errors: type[Exception]) -> Work:
    """Do the work, which may refuse the value by one of these errors."""

    def judged(value: Any) -> None:  # noqa: ANN401 - what the parser takes
        with suppress(*errors):
            work(value)

    return judged


def again(*signs: str) -> dict[str, Made]:
    """Return each sign so many times."""
    return {repr(sign): partial(lambda sign, size: sign * size, sign) for sign in signs}


def filling(*signs: str, before: str = "") -> dict[str, Made]:
    """Return each sign as often as fills so many characters."""
    return {repr(sign): partial(lambda sign, size: before + sign * (size // len(sign)), sign) for sign in signs}


def in_bytes(given: Mapping[str, Made]) -> dict[str, Made]:
    return {name: partial(lambda made, size: made(size).encode(), made) for name, made in given.items()}


# --- CSV ------------------------------------------------------------------------------------------------------------

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
HEADERS = [b"phone,", b"x,", b",", b'"', b'"a",', b'"phone"x', b"\xff", b" "]


def file_of(line: bytes, size: int) -> bytes:
    return b"phone,operator_code,tag,timezone\n" + line * (size // len(line) + 1)


def header_of(cells: bytes, size: int) -> bytes:
    return cells * (size // len(cells)) + b"\n"


def read_by(piece: int) -> Work:
    def read(file: bytes) -> None:
        reading = CsvReader()
        for start in range(0, len(file), piece):
            reading.feed(file[start : start + piece])
        reading.finish()

    return refusing(read, Invalid)


# --- heads ----------------------------------------------------------------------------------------------------------


def cookies(given: str) -> dict[str, str]:
    """As a page sees them."""
    return parse_cookie_string.__wrapped__(own_cookies(given.encode()).decode())


HEADS: dict[str, tuple[Work, dict[str, Made]]] = {
    "Accept-Language": (preferred, filling("a,", ",", ";", "ru-", "de;q=0.1, ", "-")),
    "Cookie": (
        cookies,
        filling("\\", '\\"', "\\0", "mailing_a=\\0;", "mailing_a=b;", ";", "=", "%41", before='mailing_a="'),
    ),
    "User-Agent": (describe, filling("Firefox", "Edg", "(", " ")),
    "Content-Type": (
        parse_content_header,
        filling('\\"', '\\" ', "; ", "; a", "; a=b", '; a="', "; a=\\", before="multipart/form-data"),
    ),
    "next": (local_path, filling("/admin/", "/", "\\", "?", "я", "%2f", ":", before="/admin/")),
    "what is logged": (
        Masking(["secret"]).mask,
        filling("://:", "bearer ", "7", "a", ":", "0f", "mk_", "://a:a@", "@"),
    ),
    "e-mail addresses": (mask_addresses, filling("a", "a@", "a@b ", ".")),
    "Idempotency-Key": (re.compile(PATTERN).fullmatch, filling("a", "é")),
}

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


def form_of(begun: bytes, size: int) -> bytes:
    first, more = begun[:-7], begun[-7:]
    return first + more * (size // len(more))


def multipart(piece: int) -> Work:
    async def stream(body: bytes) -> AsyncGenerator[bytes, None]:
        for start in range(0, len(body), piece):
            yield body[start : start + piece]

    return refusing(lambda body: asyncio.run(parse_multipart_form(stream(body), b"b")), ClientException)


JSON: dict[str, Made] = {
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

# --- answers of others ----------------------------------------------------------------------------------------------

NOW = datetime(2030, 1, 1, tzinfo=UTC)
SETTINGS = {"gateway_user": f"AC{'0' * 32}", "gateway_token": "token", "sender": "Shop"}
SMS_PROVIDERS = {
    name: provider_of(Settings(gateway_provider=name, **SETTINGS))  # type: ignore[arg-type] # a name of the table
    for name in get_args(ProviderName)
}
PROBE = SMS_PROVIDERS["probe"]
REPORTED = '{"messageId":"0123456789-7-0","status":{"groupId":3,"id":5}},'
NESTED = '{"from":"7","text":"STOP","status":{"groupId":1,"id":[[[[{}]]]]},"doneAt":[[1]],"error":{"name":"x"}},'
REPORTS: dict[str, Made] = {
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
WORDS = opt_out_words("STOP,СТОП")


def receipts_and_replies(provider: Provider, sent: str) -> None:
    for request in (ReceiptRequest(sent, b""), ReceiptRequest("", sent.encode())):
        with suppress(Forged):
            provider.parse_receipts(request)
        provider.parse_replies(request)


def classified(provider: Provider, status: int, body: bytes) -> object:
    return provider.classify(Response(status, body, "1", NOW), 7)


PROVIDER = OidcClient(
    issuer="https://id", client_id="c", client_secret=None, groups_claim="groups", roles={"ops": Role.ADMIN}
)
CLAIMS: dict[str, Made] = {
    "groups": lambda size: {"sub": "1", "groups": ["x"] * size},
    "sub": lambda size: {"sub": "\x00" * size, "groups": ["ops"]},
    "name": lambda size: {"sub": "1", "groups": ["ops"], "name": " " * size},
}


@cache
def keys() -> KeySet:
    return KeySet([RSAKey.generate_key(2048)])


def id_token(end: str) -> None:
    verify(f"eyJhbGciOiJSUzI1NiJ9.{end}", keys(), client=PROVIDER, nonce="n", now=0)


# --- the parsers ----------------------------------------------------------------------------------------------------

SIGNS = (
    *("'", "=", ";=", ";'=", "\t;", '";', "\t", " ", "7", "+", "a"),
    *("ü", '"', "\x00", ";", ",", "-0", "UTC ", "%", "\\", ".", ":"),
)
VALUES: dict[str, Work] = {
    "a tag": is_tag,
    "a phone": is_phone,
    "an operator code": is_operator_code,
    "a time zone": timezone.suggestion,
    "what may hold an address": mask_addresses,
    "a cell to write": escape_formula,
    "a cell to read": unescape_formula,
    "a row": lambda cell: csv_of([[cell]]),
}
VIEWER = Viewer(user=None, language="en", zone="UTC", path="/")


def search_by(name: str, typed: str) -> object:
    return parse_search({name: typed}, VIEWER)


SENT_BY_PROVIDERS: dict[str, Work] = {
    "phone": normalised_phone,
    "opt-out word": lambda text: opt_out_word(text, WORDS),
    "path": lambda path: message_of(path, key=b"k", provider="probe"),
    "address of a receipt": lambda path: message_of(f"/receipts/{path}", key=b"k", provider="probe"),
}


def parsers() -> Iterator[tuple[str, Work, Mapping[str, Made], int]]:
    """Each with its name, all that it is given, and the size of that."""
    files = {name: partial(file_of, line) for name, line in LINES.items()}
    yield "a file in pieces", read_by(16 * 1024), files, 24_000
    yield "a file in crumbs", read_by(2), files, 6_000  # what waits is not read again for each crumb
    yield "a file's preview", lambda file: preview(file, complete=False), files, 24_000
    yield "a file's header", read_by(16 * 1024), {repr(each): partial(header_of, each) for each in HEADERS}, 7_000
    for name, work in VALUES.items():
        yield name, work, again(*SIGNS), 8_000
    for name in ("begins", "tag", "after"):
        yield f"search by {name}", partial(search_by, name), again(*SIGNS), 8_000
    for name, (work, given) in HEADS.items():
        yield name, getattr(work, "__wrapped__", work), given, 8_000
    query = in_bytes(filling("a&", "a=b&", "&", "%41=%", "a[]=1&", "+", ";", "=", "%e9&"))
    yield "query", parse_query_string.__wrapped__, query, 8_000
    yield "form", parse_url_encoded_form_data, query, 8_000
    forms = {name: partial(form_of, begun) for name, begun in PARTS.items()}
    yield "a form with a file", multipart(64 * 1024), forms, 400_000
    yield "a form with a file, in crumbs", multipart(7), forms, 8_000
    for kind in (ClientIn, MailingIn):
        yield kind.__name__, refusing(partial(parse, kind=kind), Invalid), in_bytes(JSON), 3_000
    for status in (200, 400, 429):
        yield f"the gateway's answer {status}", partial(classified, PROBE, status), in_bytes(JSON), 1_000
    retry_after = filling("1", "1.", "-", ", ", "Mon, 1 Jan 2030 00:00:00 GMT", "(", ":", "+0000 ", '"', "\\")
    yield "Retry-After", lambda told: PROBE.classify(Response(429, b"", told, NOW), 1), retry_after, 1_000
    for name, provider in SMS_PROVIDERS.items():
        yield f"receipts and replies of {name}", partial(receipts_and_replies, provider), REPORTS, 500
        for status in (202, 400):
            yield f"{name}'s answer {status}", partial(classified, provider, status), in_bytes(REPORTS), 500
    for name, work in SENT_BY_PROVIDERS.items():
        yield name, refusing(work, ValueError), again(*SIGNS, "\ufdfa", "\u0301", "İ"), 8_000
    yield "claims", lambda claims: identity(claims, PROVIDER), CLAIMS, 8_000
    refused = (JoseError, UnknownKey, ValueError)
    yield "an ID token", refusing(id_token, *refused), again("a", ".", "e30.", "=", "\\", "é"), 8_000
    metadata = refusing(lambda body: msgspec.json.decode(body, type=Metadata), msgspec.DecodeError, RecursionError)
    yield "the identity provider's JSON", metadata, in_bytes(JSON), 3_000


CASES = {
    f"{parser}: {name}": (work, made, size) for parser, work, given, size in parsers() for name, made in given.items()
}


@pytest.mark.parametrize(("work", "made", "size"), CASES.values(), ids=CASES)
def test_each_parser_takes_time_proportional_to_what_it_is_given(work: Work, made: Made, size: int) -> None:
    few, many = made(size), made(FACTOR * size)
    once = min(_timed(work, few) for _ in range(4))
    often = 0.0
    assert any((often := _timed(work, many)) < MOST * once + NOISE_S for _ in range(4)), (
        f"{often:.4f} s for {FACTOR} times what takes {once:.4f} s"
    )


def _timed(work: Work, value: Any) -> float:  # noqa: ANN401 - what the parser takes
    """Return the processor time of this thread; other processes do not lengthen it."""
    began = time.thread_time()
    work(value)
    return time.thread_time() - began


@pytest.mark.parametrize("header", [b"phone,", b"x,"])
def test_a_header_without_end_gets_a_short_answer(header: bytes) -> None:
    with pytest.raises(Invalid) as refused:
        CsvReader().feed(header * 10_000 + b"\n")
    assert len(refused.value.errors) == 20


@pytest.mark.parametrize("sign", SIGNS, ids=repr)
def test_the_search_looks_at_the_beginning_of_what_was_typed(sign: str) -> None:
    assert len(parse_search({"tag": sign * 8_000}, VIEWER).search.tag) <= MAX_LENGTH
