"""Kannel 1.4.5, from its user guide, its bearerbox and answers seen."""

import pytest
from msgspec.structs import replace

from mailing.gateway.outcome import Outcome
from mailing.gateway.providers.kannel import Kannel
from mailing.gateway.providers.receipt import Receipt, ReceiptState, Reply
from mailing.settings import Settings
from support.provider_calls import asked, classify, credentials_checked, outgoing

ACCOUNT = Settings(gateway_user="mailing", gateway_token="secret")
KANNEL = Kannel(replace(ACCOUNT, sender="Shop"))


def lines(text: str = "Привет, мир", **changes: object) -> list[str]:
    return KANNEL.encode(outgoing(text=text, **changes)).headers.decode().splitlines()


def test_a_message_is_a_body_with_headers() -> None:
    call = KANNEL.encode(outgoing())
    assert (call.path, call.body.decode()) == ("/cgi-bin/sendsms", "Привет, мир")
    assert call.headers.decode().splitlines() == [
        "X-Kannel-To: +79161234567",
        "X-Kannel-Coding: 2",
        "X-Kannel-Validity: 90",
        "X-Kannel-DLR-Mask: 19",
        "X-Kannel-DLR-Url: https://mailing.example.org/receipts/42.mac?state=%d&reply=%A",
    ]


def test_the_account_and_the_sender_go_with_every_call() -> None:
    assert KANNEL.headers["X-Kannel-Username"] == "mailing"
    assert KANNEL.headers["X-Kannel-Password"] == "secret"
    assert KANNEL.headers["X-Kannel-From"] == "Shop"
    assert "X-Kannel-From" not in Kannel(ACCOUNT).headers


@pytest.mark.parametrize(
    ("text", "coding"), [("Hello €[x]", 0), ("Größe", 0), ("Привет", 2), ("Hello…", 2), ("😀", 2), ("ç", 2)]
)
def test_a_text_outside_gsm7_is_sent_as_ucs2(text: str, coding: int) -> None:
    assert f"X-Kannel-Coding: {coding}" in lines(text)


@pytest.mark.parametrize(("seconds", "minutes"), [(1, 1), (59, 1), (119, 1), (120, 2), (86_400, 1440)])
def test_the_validity_is_in_whole_minutes(seconds: int, minutes: int) -> None:
    assert f"X-Kannel-Validity: {minutes}" in lines(valid_for_s=seconds)


def test_no_receipt_is_asked_for_without_an_address_for_it() -> None:
    assert not [line for line in lines(receipt_url=None) if "DLR" in line]


def test_a_percent_sign_in_the_address_is_not_an_escape_of_kannel_s() -> None:
    assert lines(receipt_url="https://host/a%20b/r")[-1].endswith("https://host/a%%20b/r?state=%d&reply=%A")


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        (202, b"0: Accepted for delivery", Outcome.accepted),
        (202, b"3: Queued for later delivery", Outcome.accepted),
        (202, b"Sent.", Outcome.ambiguous),
        (202, b"", Outcome.ambiguous),
        (200, b"0: Accepted for delivery", Outcome.ambiguous),
        (400, b"0: Accepted for delivery", Outcome.refused),
        (403, b"Authorization failed for sendsms", Outcome.configuration),
        (403, b"Not routable. Do not try again.", Outcome.refused),
        (400, b"Number(s) has/have been denied by white- and/or black-lists.", Outcome.refused),
        (400, b"Missing receiver(s) number(s), rejected", Outcome.refused),
        (400, b"Empty receiver number not allowed, rejected", Outcome.refused),
        (400, b"Charset or body misformed, rejected", Outcome.refused),
        (400, b"Sender missing and no global set, rejected", Outcome.configuration),
        (400, b"DLR-URL field misformed, rejected", Outcome.configuration),
        (400, b"Invalid content-type", Outcome.configuration),
        (503, b"Temporal failure, try again later.", Outcome.throttled),
        (503, b"", Outcome.ambiguous),
        (404, b"Not found", Outcome.configuration),
        (500, b"", Outcome.ambiguous),
    ],
)
def test_each_answer_has_its_class(status: int, body: bytes, outcome: Outcome) -> None:
    assert classify(KANNEL, status, body).outcome is outcome


def test_a_temporal_failure_says_how_long_to_wait() -> None:
    assert classify(KANNEL, 503, b"Temporal failure, try again later.", retry_after="7").retry_after_s == 7


SMPP = "id:5 sub:001 dlvrd:000 submit date:2011291500 done date:2011291501 stat:UNDELIV err:027 text:Secret beginning"


@pytest.mark.parametrize(
    ("query", "state", "code"),
    [
        ("state=1&reply=", ReceiptState.delivered, None),
        ("state=2&reply=" + SMPP.replace(" ", "+"), ReceiptState.undelivered, "UNDELIV 027"),
        ("state=16&reply=NACK%2F10%2FInvalid+source", ReceiptState.undelivered, "NACK/10"),
        ("state=16&reply=something+else", ReceiptState.undelivered, None),
        ("state=8&reply=ACK%2F", ReceiptState.accepted, None),
        ("state=4", ReceiptState.accepted, None),
        ("state=32", ReceiptState.accepted, None),
    ],
)
def test_a_receipt_is_a_bit_of_the_mask_and_no_word_of_the_text(
    query: str, state: ReceiptState, code: str | None
) -> None:
    assert KANNEL.parse_receipts(asked(query=query)) == [Receipt(None, state, code, None)]


def test_a_bit_that_is_not_listed_proves_only_that_kannel_has_the_message() -> None:
    assert KANNEL.parse_receipts(asked(query="state=64")) == [
        Receipt(None, ReceiptState.accepted, None, None, is_listed=False)
    ]


@pytest.mark.parametrize("query", ["", "state=", "state=%25d", "state=-1", "state=1.0", "state=\u0661", "status=1"])
def test_a_receipt_without_a_state_is_malformed(query: str) -> None:
    assert KANNEL.parse_receipts(asked(query=query)) is None


def test_a_reply_is_a_phone_and_a_text() -> None:
    query = "from=%2B79160000000&text=%D1%81%D1%82%D0%BE%D0%BF+"
    assert KANNEL.parse_replies(asked(query=query)) == [Reply("+79160000000", "стоп ")]
    assert KANNEL.parse_replies(asked(query="text=STOP")) is None


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        (400, b"Missing receiver(s) number(s), rejected", Outcome.accepted),
        (403, b"Authorization failed for sendsms", Outcome.configuration),
        (403, b"Not routable. Do not try again.", Outcome.ambiguous),
        (404, b"", Outcome.ambiguous),
        (202, b"0: Accepted for delivery", Outcome.ambiguous),
    ],
)
def test_a_call_without_a_receiver_tells_whether_the_account_is_right(
    status: int, body: bytes, outcome: Outcome
) -> None:
    assert KANNEL.credentials_check.path == "/cgi-bin/sendsms"
    assert credentials_checked(KANNEL, status, body).outcome is outcome
