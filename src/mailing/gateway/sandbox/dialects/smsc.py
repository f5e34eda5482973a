"""SMSC.ru."""

import hashlib
import json
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlencode

from mailing.gateway.providers.parsing import form, message_of
from mailing.gateway.sandbox.dialects.dialect import HTTP, Dialect, Order, Received, Reply, Report, State, phone_of


class SmscDialect(Dialect):
    path = "/sys/send.php"
    check = ("POST", "/sys/balance.php")

    def password(self, call: Received) -> str | None:
        fields = form(call.body)
        return fields.get("psw") or fields.get("apikey")

    def read(self, call: Received) -> Order | str:
        fields = form(call.body)
        phone, message_id = phone_of(fields.get("phones", "")), message_of(fields.get("id"))
        if phone is None or message_id is None:
            return "parameters error"
        return Order(message_id, phone, fields.get("mes", ""), fields["id"])

    def answer(self, what: str, order: Order | None, problem: str = "") -> Reply:
        if what in ("accept", "duplicate") and order:
            return Reply(200, json.dumps({"id": order.reference, "cnt": 1}).encode())
        if what in _ANSWERS:
            return Reply(200, json.dumps({"error": problem or what, "error_code": _ANSWERS[what]}).encode())
        return Reply(HTTP[what], b"")

    def report(self, order: Order, state: State) -> Report:
        status = {"accepted": "0", "undelivered": "20", "delivered": "1"}[state]
        signed = f"{order.reference}:{order.phone}:{status}:{order.secret}".encode()
        md5 = hashlib.md5(signed, usedforsecurity=False).hexdigest()
        fields = {"id": order.reference, "phone": str(order.phone), "status": status, "md5": md5}
        return Report("POST", order.receipt_url, urlencode(fields).encode())

    def incoming(self, url: str, *, phone: int, text: str) -> Report:
        return Report("POST", url, urlencode({"phone": str(phone), "mes": text}).encode())


_ANSWERS: Final[Mapping[str, int]] = {
    "throttle_429": 9,
    "refuse_400": 7,
    "soft_refusal": 9,
    "unauthorized_401": 2,
    "invalid": 1,
}
