"""Kannel's smsbox."""

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlencode

from mailing.gateway.sandbox.dialects.dialect import (
    TEXT,
    Dialect,
    Order,
    Received,
    Reply,
    Report,
    State,
    id_in,
    phone_of,
)


class KannelDialect(Dialect):
    path = "/cgi-bin/sendsms"
    check = None  # a message without a receiver

    def password(self, call: Received) -> str | None:
        return call.headers.get("X-Kannel-Password")

    def read(self, call: Received) -> Order | str:
        phone = phone_of(call.headers.get("X-Kannel-To", ""))
        if phone is None:
            return "Missing receiver(s) number(s), rejected"
        url = call.headers.get("X-Kannel-DLR-Url", "")
        return Order(id_in(url), phone, call.body.decode("utf-8", "replace"), receipt_url=url)

    def answer(self, what: str, order: Order | None, problem: str = "") -> Reply:  # noqa: ARG002 - it answers no id
        status, words = _ANSWERS[what]
        return Reply(status, (problem or words).encode(), TEXT)

    def report(self, order: Order, state: State) -> Report:
        bit = {"accepted": 8, "undelivered": 2, "delivered": 1}[state]
        url = order.receipt_url.replace("%d", str(bit)).replace("%A", "NACK%2F8" if bit == 2 else "")
        return Report("GET", url.replace("%%", "%"))

    def incoming(self, url: str, *, phone: int, text: str) -> Report:
        return Report("GET", f"{url}?{urlencode({'from': f'+{phone}', 'text': text})}")


_ANSWERS: Final[Mapping[str, tuple[int, str]]] = {
    "accept": (202, "0: Accepted for delivery"),
    "duplicate": (202, "0: Accepted for delivery"),
    "full": (503, "Temporal failure, try again later."),
    "error_500": (500, ""),
    "throttle_429": (503, "Temporal failure, try again later."),
    "refuse_400": (403, "Not routable. Do not try again."),
    "soft_refusal": (503, "Temporal failure, try again later."),
    "unauthorized_401": (403, "Authorization failed for sendsms"),
    "invalid": (400, ""),
}
