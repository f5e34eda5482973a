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
from support.provider_calls import ID, REFERENCE, URL, asked, classify, credentials_checked, listed, outgoing

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
    ("status", "outcome"),
    listed(
        (Outcome.accepted, "1/26 1/7 1/3 3/5"),  # pending: accepted, en route, waiting; delivered
        (Outcome.accepted, "5/23"),  # duplicate message id
        (Outcome.configuration, "5/12 5/17"),  # not enough credits, prepaid package expired
        (Outcome.configuration, "5/11 5/13 5/18 5/19"),  # source, sender, destination not registered, route
        (Outcome.refused, "5/6 5/8 5/10 5/14 5/52"),  # network, prefix, do not disturb, blocklisted, destination
        (Outcome.refused, "5/24 5/25 5/51 5/87"),  # header, too long, no destination, signals blocked
        (Outcome.soft_refusal, "5/20 5/21 5/100 2/4"),  # flooding, system error, rejected by platform, by operator
        (Outcome.soft_refusal, "2/9 4/15 5/999"),  # not delivered, expired, not listed
        (Outcome.ambiguous, '0/0 9/1 "1"/26 1/null'),
    ),
)
def test_each_status_has_its_class_though_all_come_with_http_200(status: str, outcome: Outcome) -> None:
    group, code = map(json.loads, status.split("/"))
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
    listed(
        (Outcome.refused, "400"),
        (Outcome.configuration, "401 403 404"),
        (Outcome.throttled, "429"),
        (Outcome.ambiguous, "409 500 503"),
    ),
)
def test_each_http_status_has_its_class(status: str, outcome: Outcome) -> None:
    assert classify(INFOBIP, int(status), b'{"errorCode":"E4xx","description":"bad"}').outcome is outcome


@pytest.mark.parametrize(
    ("properties", "outcome"),
    [
        (["messages[0].sender"], Outcome.configuration),
        (["messages[0].destinations[0].to", "messages[0].webhooks.delivery.url"], Outcome.configuration),
        (["messages[0].options.validityPeriod"], Outcome.refused),
        (["messages[0].destinations[0].to"], Outcome.refused),
        (["messages[0].content.text"], Outcome.refused),
        ([None, 7], Outcome.refused),
        ([], Outcome.refused),
    ],
)
def test_what_is_the_same_in_each_message_is_no_fault_of_one(properties: list[object], outcome: Outcome) -> None:
    body = {"errorCode": "E400", "violations": [{"property": each, "violation": "…"} for each in properties]}
    assert classify(INFOBIP, 400, json.dumps(body).encode()).outcome is outcome


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
    ("status", "state"),
    listed(
        (ReceiptState.accepted, "3/2 1/7 4/29"),
        (ReceiptState.undelivered, "2/4 4/87 4/15 5/12"),
    ),
)
def test_each_status_has_its_state(status: str, state: ReceiptState) -> None:
    group, code = map(int, status.split("/"))
    body = received(report(group, code))
    assert INFOBIP.parse_receipts(asked(body=body)) == [Receipt(ID, state, f"STATUS_{code}", AT)]


@pytest.mark.parametrize(
    ("result", "receipt"),
    [
        (report(3, 5), Receipt(ID, ReceiptState.delivered, None, AT)),
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
    told = {"messageId": "1", "from": "79160000000", "to": "1000", "text": "Стоп", "cleanText": "Стоп"}
    for reply in (told, {"from": 79160000000, "text": "Стоп"}):
        assert INFOBIP.parse_replies(asked(body=received(reply))) == [Reply("79160000000", "Стоп")]
    assert INFOBIP.parse_replies(asked(body=received({"from": "79160000000"}))) is None


def test_one_request_has_the_replies_of_many_phones() -> None:
    phones = ["79160000000", "79160000001", "79160000002"]
    body = received(*({"from": phone, "text": "STOP"} for phone in phones))
    assert [reply.phone for reply in INFOBIP.parse_replies(asked(body=body)) or ()] == phones


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
