"""Infobip's SMS API v3, from its OpenAPI document and its list of statuses."""

import json
from datetime import UTC, datetime
from functools import reduce
from operator import getitem
from typing import Any

import pytest

from mailing.gateway.outcome import Outcome
from mailing.gateway.providers.infobip import Infobip
from mailing.gateway.providers.receipt import Receipt, ReceiptState, Reply
from mailing.settings import Settings
from support.provider_calls import ID, REFERENCE, URL, asked, classify, credentials_checked, outgoing

INFOBIP = Infobip(Settings(gateway_token="key"))


def answered(group: object, code: object, *, reference: object = REFERENCE) -> bytes:
    status = {"groupId": group, "groupName": "…", "id": code, "name": "…", "description": "…"}
    return json.dumps({"messages": [{"messageId": reference, "status": status, "destination": "7…"}]}).encode()


def test_a_message_carries_our_reference_its_validity_and_its_address() -> None:
    call = INFOBIP.encode(outgoing())
    assert call.path == "/sms/3/messages"
    assert json.loads(call.body) == {
        "messages": [
            {
                "sender": "Shop",
                "destinations": [{"to": "79161234567", "messageId": REFERENCE}],
                "content": {"text": "Привет, мир"},
                "options": {"validityPeriod": {"amount": 5400, "timeUnit": "SECONDS"}},
                "webhooks": {"delivery": {"url": URL}, "contentType": "application/json"},
            }
        ]
    }
    assert INFOBIP.headers["Authorization"] == "App key"


def test_the_validity_is_at_most_two_days_and_the_rest_may_be_left_out() -> None:
    body = json.loads(INFOBIP.encode(outgoing(sender="", receipt_url=None, valid_for_s=10**6)).body)
    assert body["messages"][0].keys() == {"destinations", "content", "options"}
    assert body["messages"][0]["options"]["validityPeriod"]["amount"] == 172_800


@pytest.mark.parametrize(
    ("group", "code", "outcome"),
    [
        (1, 26, Outcome.accepted),  # PENDING_ACCEPTED
        (1, 7, Outcome.accepted),  # PENDING_ENROUTE
        (1, 3, Outcome.accepted),  # PENDING_WAITING_DELIVERY
        (3, 5, Outcome.accepted),  # DELIVERED_TO_HANDSET
        (5, 23, Outcome.accepted),  # REJECTED_DUPLICATE_MESSAGE_ID
        (5, 12, Outcome.configuration),  # REJECTED_NOT_ENOUGH_CREDITS
        (5, 17, Outcome.configuration),  # REJECTED_PREPAID_PACKAGE_EXPIRED
        (5, 11, Outcome.configuration),  # REJECTED_SOURCE
        (5, 13, Outcome.configuration),  # REJECTED_SENDER
        (5, 18, Outcome.configuration),  # REJECTED_DESTINATION_NOT_REGISTERED
        (5, 19, Outcome.configuration),  # REJECTED_ROUTE_NOT_AVAILABLE
        (5, 6, Outcome.refused),  # REJECTED_NETWORK
        (5, 8, Outcome.refused),  # REJECTED_PREFIX_MISSING
        (5, 10, Outcome.refused),  # REJECTED_DND
        (5, 14, Outcome.refused),  # REJECTED_DESTINATION_BLOCKLISTED
        (5, 24, Outcome.refused),  # REJECTED_INVALID_UDH
        (5, 25, Outcome.refused),  # REJECTED_MESSAGE_TOO_LONG
        (5, 51, Outcome.refused),  # MISSING_TO
        (5, 52, Outcome.refused),  # REJECTED_DESTINATION
        (5, 87, Outcome.refused),  # SIGNALS_BLOCKED
        (5, 20, Outcome.soft_refusal),  # REJECTED_FLOODING_FILTER
        (5, 21, Outcome.soft_refusal),  # REJECTED_SYSTEM_ERROR
        (5, 100, Outcome.soft_refusal),  # UNDELIVERABLE_REJECTED_PLATFORM
        (2, 4, Outcome.soft_refusal),  # UNDELIVERABLE_REJECTED_OPERATOR
        (2, 9, Outcome.soft_refusal),  # UNDELIVERABLE_NOT_DELIVERED
        (4, 15, Outcome.soft_refusal),  # EXPIRED_EXPIRED
        (5, 999, Outcome.soft_refusal),
        (0, 0, Outcome.ambiguous),
        (9, 1, Outcome.ambiguous),
        ("1", 26, Outcome.ambiguous),
        (1, None, Outcome.ambiguous),
    ],
)
def test_each_status_has_its_class_though_all_come_with_http_200(group: object, code: object, outcome: Outcome) -> None:
    assert classify(INFOBIP, 200, answered(group, code)).outcome is outcome


@pytest.mark.parametrize("odd", [None, 7, 2**64, [], {}, True])
@pytest.mark.parametrize("member", [("status", "name"), ("messageId",)])
def test_a_member_that_says_nothing_of_it_undoes_no_acceptance(member: tuple[str, ...], odd: object) -> None:
    body = json.loads(answered(1, 26))
    *above, last = member
    reduce(getitem, above, body["messages"][0])[last] = odd
    assert classify(INFOBIP, 200, json.dumps(body).encode()).outcome is Outcome.accepted


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (400, Outcome.refused),
        (401, Outcome.configuration),
        (403, Outcome.configuration),
        (404, Outcome.configuration),
        (409, Outcome.ambiguous),
        (429, Outcome.throttled),
        (500, Outcome.ambiguous),
        (503, Outcome.ambiguous),
    ],
)
def test_each_http_status_has_its_class(status: int, outcome: Outcome) -> None:
    assert classify(INFOBIP, status, b'{"errorCode":"E4xx","description":"bad"}').outcome is outcome


def test_the_provider_s_id_is_kept_and_an_answer_for_another_message_is_none() -> None:
    assert classify(INFOBIP, 200, answered(1, 26)).provider_id == REFERENCE
    assert classify(INFOBIP, 200, answered(1, 26, reference="0123456789-43-0")).outcome is Outcome.ambiguous


def report(group: int, code: int, **changes: Any) -> dict[str, Any]:  # noqa: ANN401 - any member
    return {
        "messageId": REFERENCE,
        "to": "79161234567",
        "doneAt": "2030-05-17T12:00:01.500+0300",
        "status": {"groupId": group, "id": code, "name": f"STATUS_{code}"},
        "error": {"groupId": 0, "id": 0, "name": "NO_ERROR", "permanent": False},
        **changes,
    }


def received(*results: object) -> bytes:
    return json.dumps({"results": results}).encode()


ABSENT = {"groupId": 1, "id": 27, "name": "EC_ABSENT_SUBSCRIBER", "permanent": False}
AT = datetime(2030, 5, 17, 9, 0, 1, 500_000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("result", "receipt"),
    [
        (report(3, 5), Receipt(ID, ReceiptState.delivered, None, AT)),
        (report(3, 2), Receipt(ID, ReceiptState.accepted, "STATUS_2", AT)),
        (report(1, 7), Receipt(ID, ReceiptState.accepted, "STATUS_7", AT)),
        (report(2, 4), Receipt(ID, ReceiptState.undelivered, "STATUS_4", AT)),
        (report(4, 29), Receipt(ID, ReceiptState.accepted, "STATUS_29", AT)),
        (report(4, 87), Receipt(ID, ReceiptState.undelivered, "STATUS_87", AT)),
        (report(4, 15), Receipt(ID, ReceiptState.undelivered, "STATUS_15", AT)),
        (report(5, 12), Receipt(ID, ReceiptState.undelivered, "STATUS_12", AT)),
        (report(2, 9, error=ABSENT), Receipt(ID, ReceiptState.undelivered, "EC_ABSENT_SUBSCRIBER", AT)),
        (report(8, 9), Receipt(ID, ReceiptState.accepted, "STATUS_9", AT, is_listed=False)),
        (report(3, 5, doneAt="soon"), Receipt(ID, ReceiptState.delivered, None, None)),
    ],
)
def test_each_report_is_a_receipt_of_its_message(result: dict[str, Any], receipt: Receipt) -> None:
    assert INFOBIP.parse_receipts(asked(body=received(result))) == [receipt]


def test_one_request_reports_many_messages() -> None:
    results = [report(3, 5, messageId=f"0123456789-{number}-0") for number in range(1, 101)]
    receipts = INFOBIP.parse_receipts(asked(body=received(*results)))
    assert [receipt.message_id for receipt in receipts or ()] == list(range(1, 101))


def test_one_odd_item_loses_no_other() -> None:
    reports = received({}, 5, report(3, 5), report(3, 5, messageId="of another program"))
    assert INFOBIP.parse_receipts(asked(body=reports)) == [Receipt(ID, ReceiptState.delivered, None, AT)]
    replies = received({"from": "79160000000", "text": None}, {"from": "79160000001", "text": "STOP"})
    assert INFOBIP.parse_replies(asked(body=replies)) == [Reply("79160000001", "STOP")]


def test_a_rejected_repeat_says_nothing_of_the_first() -> None:
    assert INFOBIP.parse_receipts(asked(body=received(report(5, 23)))) == []


@pytest.mark.parametrize("body", [b"", b"{}", b'{"results": 5}', b'{"results": [5]}', b'{"results": [{}]}', b"\xff"])
def test_anything_else_is_malformed(body: bytes) -> None:
    assert INFOBIP.parse_receipts(asked(body=body)) is None


def test_a_reply_is_a_phone_and_a_text() -> None:
    body = received({"messageId": "1", "from": "79160000000", "to": "1000", "text": "Стоп", "cleanText": "Стоп"})
    assert INFOBIP.parse_replies(asked(body=body)) == [Reply("79160000000", "Стоп")]
    assert INFOBIP.parse_replies(asked(body=received({"from": 79160000000, "text": "Стоп"}))) == [
        Reply("79160000000", "Стоп")
    ]
    assert INFOBIP.parse_replies(asked(body=received({"from": "79160000000"}))) is None


def test_one_request_has_the_replies_of_many_phones() -> None:
    body = received(*({"from": f"7916000000{digit}", "text": "STOP"} for digit in range(3)))
    assert [reply.phone for reply in INFOBIP.parse_replies(asked(body=body)) or ()] == [
        "79160000000",
        "79160000001",
        "79160000002",
    ]


@pytest.mark.parametrize(
    ("status", "body", "outcome"),
    [
        (200, b'{"balance": 47.8, "currency": "EUR"}', Outcome.accepted),
        (200, b"<html>", Outcome.ambiguous),
        (401, b"{}", Outcome.configuration),
        (403, b"{}", Outcome.configuration),
        (500, b"", Outcome.ambiguous),
    ],
)
def test_the_balance_tells_whether_the_account_is_right(status: int, body: bytes, outcome: Outcome) -> None:
    assert INFOBIP.credentials_check.path == "/account/1/balance"
    assert credentials_checked(INFOBIP, status, body).outcome is outcome
