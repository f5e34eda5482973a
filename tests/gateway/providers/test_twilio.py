"""Twilio's Messages resource, from its OpenAPI document, its dictionary of errors and its page on webhooks."""

import json

import pytest

from mailing.gateway.outcome import Outcome
from mailing.gateway.providers.provider import CredentialsCheck
from mailing.gateway.providers.receipt import Receipt, ReceiptState, Reply
from mailing.gateway.providers.twilio import Twilio
from mailing.settings import Settings
from support.provider_calls import URL, asked, classify, credentials_checked, form_of, listed, outgoing

ACCOUNT, SERVICE, SID = f"AC{'0' * 32}", f"MG{'1' * 32}", f"SM{'2' * 32}"
TWILIO = Twilio(Settings(gateway_user=ACCOUNT, gateway_token="token"))


def created(status: str, error: int | None = None) -> bytes:
    return json.dumps({"sid": SID, "status": status, "error_code": error, "body": "…", "to": "+7…"}).encode()


def test_a_message_is_a_form_with_its_validity_and_an_address_that_is_tried_again() -> None:
    call = TWILIO.encode(outgoing())
    assert call.path == f"/2010-04-01/Accounts/{ACCOUNT}/Messages.json"
    assert form_of(call) == {
        "To": "+79161234567",
        "From": "Shop",
        "Body": "Привет, мир",
        "ValidityPeriod": "5400",
        "StatusCallback": f"{URL}#rc=5&rp=all",
    }
    assert TWILIO.headers["Authorization"].startswith("Basic QUMw")


@pytest.mark.parametrize("odd", ["", "30001", 2**31, 1.5, [], {}, True])
def test_an_error_code_of_another_kind_undoes_no_acceptance(odd: object) -> None:
    body = json.loads(created("queued")) | {"error_code": odd}
    assert classify(TWILIO, 201, json.dumps(body).encode()).outcome is Outcome.accepted


def test_a_messaging_service_is_a_sender_too_and_ten_hours_are_the_longest_validity() -> None:
    form = form_of(TWILIO.encode(outgoing(sender=SERVICE, receipt_url=None, valid_for_s=10**6)))
    assert form == {
        "To": "+79161234567",
        "MessagingServiceSid": SERVICE,
        "Body": "Привет, мир",
        "ValidityPeriod": "36000",
    }


@pytest.mark.parametrize("status", ["queued", "accepted", "scheduled", "sending", "sent", "delivered"])
def test_a_message_with_a_sid_is_accepted(status: str) -> None:
    answer = classify(TWILIO, 201, created(status))
    assert (answer.outcome, answer.provider_id) == (Outcome.accepted, SID)


@pytest.mark.parametrize(
    ("body", "outcome"),
    [
        (created("failed", 30002), Outcome.configuration),
        (created("failed", 21610), Outcome.refused),
        (created("failed"), Outcome.refused),
        (created("undelivered", 30005), Outcome.refused),
        (created("unheard-of"), Outcome.ambiguous),
        (b'{"status": "queued"}', Outcome.ambiguous),
        (b'{"sid": "SM1", "status": "queued"}', Outcome.ambiguous),
    ],
)
def test_201_alone_is_not_an_acceptance(body: bytes, outcome: Outcome) -> None:
    assert classify(TWILIO, 201, body).outcome is outcome


@pytest.mark.parametrize(
    ("status_and_code", "outcome"),
    listed(
        (Outcome.configuration, "401/20003 401/10001 403/20005 403/20008 404/20404 400/20001 429/63038"),
        (Outcome.configuration, "400/21212 400/21603 400/21606 400/21608 400/21609 400/21616 400/21624 400/21657"),
        (Outcome.configuration, "400/21659 400/21660 400/21663 400/21702 400/21703 400/21709 400/21901 400/21910"),
        (Outcome.throttled, "429/20429 429/21611 400/21611 400/63017 400/60728"),
        (Outcome.refused, "400/21211 400/21408 403/21408 400/21602 400/21604 400/21610 400/21612 400/21614"),
        (Outcome.refused, "400/21617 400/21618 400/99999"),
        (Outcome.ambiguous, "500/20500 503/20003"),
    ),
)
def test_each_error_has_its_class(status_and_code: str, outcome: Outcome) -> None:
    status, code = map(int, status_and_code.split("/"))
    body = json.dumps({"code": code, "message": "…", "more_info": "https://…", "status": status}).encode()
    assert classify(TWILIO, status, body).outcome is outcome


@pytest.mark.parametrize(
    ("status", "outcome"),
    listed((Outcome.configuration, "401 301"), (Outcome.throttled, "429"), (Outcome.ambiguous, "409")),
)
def test_a_status_without_a_body_has_its_class(status: str, outcome: Outcome) -> None:
    assert classify(TWILIO, int(status)).outcome is outcome


@pytest.mark.parametrize(
    ("form", "state", "code", "is_listed"),
    [
        ("MessageStatus=queued", ReceiptState.accepted, None, True),
        ("MessageStatus=sent", ReceiptState.accepted, None, True),
        ("MessageStatus=delivered&ErrorCode=", ReceiptState.delivered, None, True),
        ("MessageStatus=read", ReceiptState.delivered, None, True),
        ("MessageStatus=undelivered&ErrorCode=30003", ReceiptState.undelivered, "30003", True),
        ("MessageStatus=failed&ErrorCode=30008&To=%2B7", ReceiptState.undelivered, "30008", True),
        ("MessageStatus=canceled", ReceiptState.undelivered, None, True),
        ("MessageStatus=partially_delivered", ReceiptState.accepted, None, False),
    ],
)
def test_each_status_has_its_state(form: str, state: ReceiptState, code: str | None, is_listed: bool) -> None:
    assert TWILIO.parse_receipts(asked(body=form.encode())) == [Receipt(None, state, code, None, is_listed=is_listed)]


@pytest.mark.parametrize("body", [b"", b"MessageStatus=", b"MessageStatus=%00", b"\xff", b"{}", b"SmsStatus=sent"])
def test_anything_else_is_malformed(body: bytes) -> None:
    assert TWILIO.parse_receipts(asked(body=body)) is None


def test_a_reply_is_a_phone_and_a_text() -> None:
    body = b"From=%2B79160000000&To=1000&Body=%D0%A1%D1%82%D0%BE%D0%BF&OptOutType=STOP"
    assert TWILIO.parse_replies(asked(body=body)) == [Reply("+79160000000", "Стоп")]
    assert TWILIO.parse_replies(asked(body=b"Body=STOP")) is None


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        (200, b'{"status": "active"}', Outcome.accepted),
        (200, b'{"status": "suspended"}', Outcome.configuration),
        (200, b'{"status": "closed"}', Outcome.configuration),
        (200, b"{}", Outcome.ambiguous),
        (401, b'{"code": 20003}', Outcome.configuration),
        (503, b"", Outcome.ambiguous),
    ],
)
def test_the_account_tells_whether_it_is_right_and_active(status: int, body: bytes, outcome: Outcome) -> None:
    assert TWILIO.credentials_check == CredentialsCheck("GET", f"/2010-04-01/Accounts/{ACCOUNT}.json")
    assert credentials_checked(TWILIO, status, body).outcome is outcome
