"""Infobip."""

import json
from collections.abc import Mapping
from typing import Final

from mailing.gateway.outcome import json_object
from mailing.gateway.providers.parsing import message_of
from mailing.gateway.sandbox.dialects.dialect import (
    HTTP,
    JSON,
    Dialect,
    Order,
    Received,
    Reply,
    Report,
    State,
    phone_of,
)


class InfobipDialect(Dialect):
    path = "/sms/3/messages"
    check = ("GET", "/account/1/balance")
    recognises_ids = True

    def password(self, call: Received) -> str | None:
        scheme, _, key = call.headers.get("Authorization", "").partition(" ")
        return key or None if scheme == "App" else None

    def read(self, call: Received) -> Order | str:
        try:
            found = json_object(call.body)
            message = found["messages"][0] if isinstance(found, dict) else {}
            destination = message["destinations"][0]
            phone, text = phone_of(str(destination["to"])), str(message["content"]["text"])
            reference = str(destination["messageId"])
        except (KeyError, IndexError, TypeError):
            return "bad request"
        url = message.get("webhooks", {}).get("delivery", {}).get("url", "")
        message_id = message_of(reference)
        return "bad request" if phone is None or message_id is None else Order(message_id, phone, text, reference, url)

    def answer(self, what: str, order: Order | None, problem: str = "") -> Reply:
        if what in _ANSWERS and order:
            message = {"messageId": order.reference, "status": _status(*_ANSWERS[what])}
            return Reply(200, json.dumps({"messages": [message]}).encode())
        status = HTTP[what]
        return Reply(status, json.dumps({"errorCode": f"E{status}", "description": problem}).encode())

    def report(self, order: Order, state: State) -> Report:
        status = _status(*_STATES[state])
        result = {"messageId": order.reference, "to": str(order.phone), "status": status}
        return Report("POST", order.receipt_url, json.dumps({"results": [result]}).encode(), JSON)

    def incoming(self, url: str, *, phone: int, text: str) -> Report:
        return Report("POST", url, json.dumps({"results": [{"from": str(phone), "text": text}]}).encode(), JSON)


_STATES: Final[Mapping[State, tuple[int, str, int]]] = {
    "accepted": (1, "PENDING", 7),
    "undelivered": (2, "UNDELIVERABLE", 9),
    "delivered": (3, "DELIVERED", 5),
}
_ANSWERS: Final[Mapping[str, tuple[int, str, int]]] = {
    "accept": (1, "PENDING", 26),
    "duplicate": (5, "REJECTED", 23),
    "refuse_400": (5, "REJECTED", 52),
    "soft_refusal": (5, "REJECTED", 20),
}


def _status(group: int, name: str, code: int) -> dict[str, object]:
    return {"groupId": group, "groupName": name, "id": code, "name": f"{name}_{code}"}
