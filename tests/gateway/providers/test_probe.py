"""Every status, every body and every Retry-After that a gateway was seen, or may be feared, to answer."""

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailing.gateway.outcome import RETRY_AFTER_CAP_S, Answer, Outcome, Response
from mailing.gateway.providers.probe import classify
from mailing.reasons.codes import ReasonCode, words_of

NOW = datetime(2030, 5, 17, 12, 0, tzinfo=UTC)
OK = b'{"code":0,"message":"OK"}'
ID = 7


def answer(status: int, body: bytes = OK, retry_after: str | None = None) -> Answer:
    return classify(Response(status, body, retry_after, NOW), ID)


def is_fit_to_store(given: Answer) -> bool:
    code_fits = given.code is None or -(2**63) <= given.code < 2**63
    return code_fits and len(words_of(given.full_reason)) <= 200 and words_of(given.full_reason).isprintable()


BODY_REASONS = {
    *(ReasonCode.empty_body, ReasonCode.html, ReasonCode.not_json, ReasonCode.not_an_object, ReasonCode.no_code),
    *(ReasonCode.invalid_code, ReasonCode.other_message_id),
}

EXPECTED = {
    Outcome.accepted: {200, 201, 202, 226, 299, 409},
    Outcome.not_sent: {408, 425},
    Outcome.throttled: {429},
    Outcome.refused: {400, 413, 414, 415, 422},
    Outcome.configuration: {300, 301, 302, 303, 304, 307, 308, 399, 401, 403, 404, 405},
    Outcome.ambiguous: {-1, 0, 99, 100, 101, 103, 402, 406, 407, 410, 411, 412, 416, 417, 418, 421, 423, 424, 426, 428}
    | {431, 451, 499, 500, 501, 502, 503, 504, 505, 507, 511, 520, 599, 600, 999},
}


@pytest.mark.parametrize(("status", "outcome"), [(s, outcome) for outcome, group in EXPECTED.items() for s in group])
def test_the_status_decides_when_the_body_says_code_0(status: int, outcome: Outcome) -> None:
    given = answer(status)
    assert (given.outcome, given.http_status) == (outcome, status)
    assert given.outcome is Outcome.accepted or str(status) in words_of(given.full_reason)


@pytest.mark.parametrize(
    "body",
    [
        OK,
        b'{"code":0}',
        b' \r\n\t{"message":"OK", "code" : 0}\n',
        '{"code":0,"message":"\u041f\u0440\u0438\u0432\u0435\u0442"}'.encode(),
        b'{"code":0,"message":"\\ud800"}',
        b'{"code":0,"id":7}',
        b'{"code":0,"id":"7"}',
        b'{"code":0,"id":null}',
        b'{"code":0,"more":{"code":5,"deep":[1.5,true,null]}}',
    ],
)
def test_a_json_object_whose_code_is_the_integer_0_is_accepted(body: bytes) -> None:
    assert answer(200, body) == Answer(Outcome.accepted, 200, 0)


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b" \n", b"\x00", b"null", b"[]", b"0", b'"0"', b"true", b'[{"code":0}]', b"{}", b'{"message":"OK"}'),
        *(b'{"CODE":0}', b'{"code":"0"}', b'{"code":0.0}', b'{"code":0e0}', b'{"code":true}', b'{"code":null}'),
        *(b'{"code":[0]}', b'{"code":{"code":0}}', b'{"code":NaN}', b'{"code":0,"delay":NaN}'),
        *(b'{"code":0,"delay":-Infinity}', b'{"code":00}', b'{"code":0x0}', b"{'code':0}", b'{"code":0,}'),
        *(b'{"code":0} {"code":0}', b'{"code":0}garbage', b'{"code":0'),
        *(b'{"code":0,"code":5}', b'{"code":5,"code":0}', b'{"code":0,"code":0}'),
        *(b'{"code":0,"message":"\n"}', b'{"code":0,"message":"\xff"}', b"\xef\xbb\xbf" + OK),
        *(OK.decode().encode(encoding) for encoding in ("utf-16", "utf-16-le", "utf-32")),
        *(b"[" * 100_000, b'{"code":0,"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", b'{"a":' * 100_000),
        *(b'{"code":' + b"9" * 60_000 + b"}", b'{"code":9223372036854775808}', b'{"code":-9223372036854775809}'),
        *(b"<!doctype html><title>code 0</title>", b"<html>" + OK, b"\x1f\x8b\x08\x00"),
        *(b'{"code":%d,"id":%s}' % (code, id_) for code, id_ in ((0, b"8"), (0, b'"8"'), (0, b'"seven"'), (5, b"8"))),
        *(b'{"code":0,"id":true}', b'{"code":0,"id":[7]}'),
    ],
    ids=lambda body: repr(body[:30]),
)
def test_a_success_status_with_anything_else_is_ambiguous(body: bytes) -> None:
    given = answer(200, body)
    assert given.outcome is Outcome.ambiguous
    assert given.reason in BODY_REASONS
    assert is_fit_to_store(given)


@pytest.mark.parametrize("code", [1, -1, 7, 400, 2**63 - 1, -(2**63)])
def test_another_integer_code_is_a_soft_refusal(code: int) -> None:
    given = answer(200, json.dumps({"code": code, "message": "call +79161234567"}).encode())
    assert given == Answer(Outcome.soft_refusal, 200, code, reason=ReasonCode.gateway_code)
    assert words_of(given.full_reason) == f"gateway answered code {code}"


def test_a_page_instead_of_json_is_named() -> None:
    assert answer(200, b"\n<html>").reason is ReasonCode.html


@pytest.mark.parametrize("status", [400, 409, 422])
def test_a_final_answer_that_numbers_another_message_is_ambiguous(status: int) -> None:
    assert answer(status, b'{"id":8}').outcome is Outcome.ambiguous
    assert answer(status, b'{"id":"8"}').outcome is Outcome.ambiguous


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"id":7}', b'{"id":"bad_request"}', b'{"id":null}', b"[8]"])
def test_a_final_status_stands_when_its_body_contradicts_nothing(body: bytes) -> None:
    assert answer(400, body).outcome is Outcome.refused
    assert answer(409, body).outcome is Outcome.accepted


@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [
        (None, None),
        *((text, float(text)) for text in ("0", "120", " 5 ", "+5", "1.5")),
        ("-5", 0.0),
        *((text, RETRY_AFTER_CAP_S) for text in ("901", "315360000", "9" * 300)),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90.0),
        (format_datetime(NOW - timedelta(days=1), usegmt=True), 0.0),
        (format_datetime(NOW + timedelta(days=3650), usegmt=True), RETRY_AFTER_CAP_S),
        ("Fri, 17 May 2030 12:00:30 -0000", 30.0),
        ("Fri, 17 May 2030 15:00:30 +0300", 30.0),
        ("Friday, 17-May-30 12:00:30 GMT", 30.0),
        ("Fri May 17 12:00:30 2030", 30.0),
        *((text, None) for text in ("", "soon", "1e9", "0x10", "inf", "nan", "5, 10", "\u0663", "9" * 9000)),
        ("Fri, 99 May 2030 12:00:00 GMT", None),
        ("Fri, 17 May 2030 12:00:30 +9999999", None),
    ],
)
def test_retry_after_is_seconds_or_a_date_between_now_and_the_cap(
    retry_after: str | None, seconds: float | None
) -> None:
    assert answer(429, b"", retry_after) == Answer(
        Outcome.throttled, 429, reason=ReasonCode.http_status, retry_after_s=seconds
    )


@pytest.mark.parametrize(
    ("retry_after", "outcome"),
    [("30", Outcome.throttled), ("soon", Outcome.throttled), ("  ", Outcome.ambiguous), (None, Outcome.ambiguous)],
)
def test_503_throttles_only_when_it_says_when_to_come_back(retry_after: str | None, outcome: Outcome) -> None:
    assert answer(503, b"", retry_after).outcome is outcome


def test_only_what_the_gateway_says_of_itself_burns_no_attempt() -> None:
    assert {outcome for outcome in Outcome if not outcome.counts_as_attempt} == {
        Outcome.throttled,
        Outcome.configuration,
    }


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["code", "id", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)
codes = st.sampled_from(
    ["0", "-0", "0.0", "1", "00", "true", "null", '"0"', "NaN", "0e1", "[0]", "9223372036854775808"]
)
templates = st.builds(
    '{{"code":{}{}}}'.format, codes, st.sampled_from(["", ',"id":7', ',"id":8', ',"id":"7"', ',"x":1', " "])
)
bodies = st.binary() | json_values.map(lambda value: json.dumps(value).encode()) | templates.map(str.encode)


def strictly_accepted(body: bytes) -> bool:
    """Decide again, by other means: the text that remains of a body when the standard parser has read it."""
    try:
        reply = json.loads(body.decode("utf-8", "strict"))
        json.dumps(reply, allow_nan=False)
    except ValueError:
        return False
    if not isinstance(reply, dict) or json.dumps(reply.get("code")) != "0":
        return False
    return json.dumps(reply.get("id")) in ("null", "7", '"7"', "7.0")


@given(status=st.integers(-1, 1000) | st.integers(200, 299), retry_after=st.none() | st.text(), body=bodies)
def test_no_answer_raises_or_is_accepted_unless_it_says_so(status: int, retry_after: str | None, body: bytes) -> None:
    given = classify(Response(status, body, retry_after, NOW), ID)
    assert is_fit_to_store(given)
    assert given.retry_after_s is None or 0 <= given.retry_after_s <= RETRY_AFTER_CAP_S
    if 200 <= status <= 299:
        assert (given.outcome is Outcome.accepted) is strictly_accepted(body)
    elif status != 409:
        assert given.outcome is not Outcome.accepted


dates = st.text('MonTueJanFeb 0123456789:+-,GMT()"\\.', max_size=60)


@given(retry_after=st.text() | dates | st.datetimes().map(lambda at: format_datetime(at.replace(tzinfo=UTC))))
def test_no_retry_after_raises(retry_after: str) -> None:
    seconds = answer(429, b"", retry_after).retry_after_s
    assert seconds is None or 0 <= seconds <= RETRY_AFTER_CAP_S
