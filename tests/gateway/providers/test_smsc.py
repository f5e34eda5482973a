"""SMSC.ru, from its pages on sending, on statuses and on the handler of events."""

import hashlib
import json
from datetime import UTC, datetime
from urllib.parse import urlencode

import pytest

from mailing.gateway.outcome import Outcome
from mailing.gateway.providers.provider import CredentialsCheck
from mailing.gateway.providers.receipt import Forged, Receipt, ReceiptState, Reply
from mailing.gateway.providers.smsc import Smsc
from mailing.settings import Settings
from support.provider_calls import (
    ID,
    REFERENCE,
    SECRET,
    asked,
    classify,
    credentials_checked,
    form_of,
    listed,
    outgoing,
)

SMSC = Smsc(Settings(gateway_user="shop", gateway_token="secret"))


def test_a_message_is_a_form_in_utf8_with_our_reference() -> None:
    call = SMSC.encode(outgoing())
    assert call.path == "/sys/send.php"
    assert form_of(call) == {
        "login": "shop",
        "psw": "secret",
        "phones": "+79161234567",
        "mes": "Привет, мир",
        "id": REFERENCE,
        "valid": "01:30",
        "charset": "utf-8",
        "fmt": "3",
        "sender": "Shop",
    }


def test_an_api_key_stands_for_login_and_password() -> None:
    form = form_of(Smsc(Settings(gateway_token="key")).encode(outgoing(sender="")))
    assert form["apikey"] == "key"
    assert not form.keys() & {"login", "psw", "sender"}


@pytest.mark.parametrize(("seconds", "valid"), [(1, "00:01"), (119, "00:01"), (3600, "01:00"), (10**6, "24:00")])
def test_the_validity_is_one_minute_to_one_day(seconds: int, valid: str) -> None:
    assert form_of(SMSC.encode(outgoing(valid_for_s=seconds)))["valid"] == valid


@pytest.mark.parametrize(
    ("code", "outcome"),
    listed(
        (Outcome.configuration, "1 2 3 5"),
        (Outcome.throttled, "4 9"),
        (Outcome.refused, "6 7 8"),
        (Outcome.ambiguous, "10"),
    ),
)
def test_each_error_has_its_class_though_all_come_with_http_200(code: str, outcome: Outcome) -> None:
    body = json.dumps({"error": "описание", "error_code": int(code), "id": REFERENCE}).encode()
    answer = classify(SMSC, 200, body)
    assert (answer.outcome, answer.code) == (outcome, int(code))


@pytest.mark.parametrize(
    ("body", "outcome"),
    [
        ({"id": REFERENCE, "cnt": 1}, Outcome.accepted),
        ({"id": REFERENCE, "cnt": 2}, Outcome.accepted),
        ({"id": REFERENCE}, Outcome.ambiguous),
        ({"id": "0123456789-43-0", "cnt": 1}, Outcome.ambiguous),
        ({"id": 5, "cnt": 1}, Outcome.ambiguous),
        ({"error": "…", "id": REFERENCE, "cnt": 1}, Outcome.ambiguous),
    ],
)
def test_an_acceptance_names_our_reference_and_counts_parts(body: dict[str, object], outcome: Outcome) -> None:
    assert classify(SMSC, 200, json.dumps(body).encode()).outcome is outcome


@pytest.mark.parametrize(
    ("status", "outcome"), [(401, Outcome.configuration), (500, Outcome.ambiguous), (429, Outcome.throttled)]
)
def test_each_http_status_has_its_class(status: int, outcome: Outcome) -> None:
    assert classify(SMSC, status).outcome is outcome


def signed(status: object, *, reference: str = REFERENCE, secret: str = SECRET, **more: str) -> bytes:
    phone = "79161234567"
    md5 = hashlib.md5(f"{reference}:{phone}:{status}:{secret}".encode(), usedforsecurity=False).hexdigest()
    return urlencode({"id": reference, "phone": phone, "status": status, "md5": md5, **more}).encode()


@pytest.mark.parametrize(
    ("status", "state"),
    listed(
        (ReceiptState.accepted, "-2 -1 0"),
        (ReceiptState.delivered, "1 2 4"),
        (ReceiptState.undelivered, "3 20 22 23 24 25"),
    ),
)
def test_each_status_has_its_state(status: str, state: ReceiptState) -> None:
    code = None if state is ReceiptState.delivered else status
    assert SMSC.parse_receipts(asked(body=signed(status))) == [Receipt(ID, state, code, None)]


def test_a_handler_that_is_called_by_get_is_understood_too() -> None:
    assert SMSC.parse_receipts(asked(query=signed(1).decode())) == [Receipt(ID, ReceiptState.delivered, None, None)]
    assert SMSC.parse_replies(asked(query="phone=79161234567&mes=STOP")) == [Reply("79161234567", "STOP")]


def test_the_reason_and_the_time_are_the_operator_s() -> None:
    receipts = SMSC.parse_receipts(asked(body=signed(20, err="6", ts="1900000000")))
    at = datetime.fromtimestamp(1_900_000_000, UTC)
    assert receipts == [Receipt(ID, ReceiptState.undelivered, "6", at)]


def test_a_status_that_is_not_listed_is_no_final_state() -> None:
    assert SMSC.parse_receipts(asked(body=signed(77))) == [
        Receipt(ID, ReceiptState.accepted, "77", None, is_listed=False)
    ]


def test_a_message_not_found_and_a_message_of_another_program_prove_nothing() -> None:
    assert SMSC.parse_receipts(asked(body=signed(-3))) == []
    assert SMSC.parse_receipts(asked(body=signed(1, reference="17"))) == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        signed(1, secret="guessed"),
        signed(1, secret="secret"),  # the password
        signed(1).replace(b"status=1", b"status=2"),
        signed(1).replace(REFERENCE.encode(), b"0123456789-43-0"),
        signed(1).partition(b"&md5")[0],
    ],
)
def test_what_is_not_signed_by_the_account_is_forged(body: bytes) -> None:
    with pytest.raises(Forged):
        SMSC.parse_receipts(asked(body=body))


def test_a_status_that_is_no_number_is_malformed() -> None:
    assert SMSC.parse_receipts(asked(body=signed("one"))) is None


def test_nothing_is_signed_with_a_secret_that_is_not_set() -> None:
    with pytest.raises(Forged):
        SMSC.parse_receipts(asked(body=signed(1, secret=""), secret=""))


@pytest.mark.parametrize("encoding", ["utf-8", "cp1251"])
def test_a_reply_is_a_phone_and_a_text(encoding: str) -> None:
    form = {"phone": "79160000000", "mes": "Стоп", "to": "1000", "id": "5"}
    for body in (urlencode(form, encoding=encoding).encode(), "phone=79160000000&mes=Стоп".encode(encoding)):
        assert SMSC.parse_replies(asked(body=body)) == [Reply("79160000000", "Стоп")]
    assert SMSC.parse_replies(asked(body=b"mes=STOP")) is None


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        (200, b'{"balance": "100.00"}', Outcome.accepted),
        (200, b'{"error": "authorise error", "error_code": 2}', Outcome.configuration),
        (200, b'{"error": "too many", "error_code": 9}', Outcome.ambiguous),
        (200, b"", Outcome.ambiguous),
        (403, b"", Outcome.configuration),
    ],
)
def test_the_balance_tells_whether_the_account_is_right(status: int, body: bytes, outcome: Outcome) -> None:
    assert SMSC.credentials_check == CredentialsCheck("POST", "/sys/balance.php", b"login=shop&psw=secret&fmt=3")
    assert credentials_checked(SMSC, status, body).outcome is outcome
