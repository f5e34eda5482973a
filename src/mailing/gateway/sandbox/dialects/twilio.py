"""Twilio."""

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlencode

from mailing.gateway.providers.parsing import form
from mailing.gateway.sandbox.dialects.dialect import Dialect, Order, Received, Reply, Report, State, id_in, phone_of


class TwilioDialect(Dialect):
    path = "/2010-04-01/Accounts/{message_id}/Messages.json"
    check = ("GET", "/2010-04-01/Accounts/{account}.json")

    def password(self, call: Received) -> str | None:
        scheme, _, encoded = call.headers.get("Authorization", "").partition(" ")
        try:
            user, _, token = base64.b64decode(encoded, validate=True).decode().partition(":")
        except ValueError:
            return None
        return token or None if scheme == "Basic" and user else None

    def read(self, call: Received) -> Order | str:
        fields = form(call.body)
        phone, url = phone_of(fields.get("To", "")), fields.get("StatusCallback", "")
        return "bad request" if phone is None else Order(id_in(url), phone, fields.get("Body", ""), receipt_url=url)

    def answer(self, what: str, order: Order | None, problem: str = "") -> Reply:
        if what in ("accept", "duplicate") and order:
            return Reply(201, json.dumps({"sid": _sid(order), "status": "queued", "error_code": None}).encode())
        status, code = _ANSWERS[what]
        return Reply(status, json.dumps({"code": code, "message": problem, "status": status}).encode())

    def report(self, order: Order, state: State) -> Report:
        word = {"accepted": "sent", "undelivered": "undelivered", "delivered": "delivered"}[state]
        fields = {"MessageSid": _sid(order), "MessageStatus": word}
        fields |= {"ErrorCode": "30003"} if state == "undelivered" else {}
        return Report("POST", order.receipt_url.partition("#")[0], urlencode(fields).encode())

    def incoming(self, url: str, *, phone: int, text: str) -> Report:
        return Report("POST", url, urlencode({"From": f"+{phone}", "Body": text}).encode())


_ANSWERS: Final[Mapping[str, tuple[int, int]]] = {
    "full": (503, 20503),
    "error_500": (500, 20500),
    "throttle_429": (429, 20429),
    "refuse_400": (400, 21211),
    "soft_refusal": (429, 21611),
    "unauthorized_401": (401, 20003),
    "invalid": (400, 21604),
}


def _sid(order: Order) -> str:
    return "SM" + hashlib.md5(f"{order.id} {order.phone}".encode(), usedforsecurity=False).hexdigest()
