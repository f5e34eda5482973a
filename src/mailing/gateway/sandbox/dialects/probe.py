"""The Probe server."""

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from mailing.gateway.sandbox.dialects.dialect import Dialect, Order, Received, Reply, Report, State

BIGINT: Final = range(-(2**63), 2**63)
PHONES: Final = range(70_000_000_000, 80_000_000_000)


class _NumberedOrder(msgspec.Struct, frozen=True):
    id: int
    phone: int
    text: str


_read_numbered = msgspec.json.Decoder(_NumberedOrder).decode


class ProbeDialect(Dialect):
    base = "/v1"
    path = "/v1/send/{message_id}"

    def password(self, call: Received) -> str | None:
        scheme, _, token = call.headers.get("Authorization", "").partition(" ")
        return token.strip() or None if scheme == "Bearer" else None

    def read(self, call: Received) -> Order | str:
        try:
            body = _read_numbered(call.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return str(error)
        if body.id not in BIGINT or not re.fullmatch(r"-?[0-9]{1,19}", call.path_id) or body.id != int(call.path_id):
            return "`id` must be a 64-bit integer and the same as in the path"
        if body.phone not in PHONES:
            return "`phone` must be a number of the form 7XXXXXXXXXX"
        return Order(body.id, body.phone, body.text)

    def answer(self, what: str, order: Order | None, problem: str = "") -> Reply:  # noqa: ARG002 - it repeats no id
        return Reply(400, msgspec.json.encode({"code": 400, "message": problem})) if problem else _ANSWERS[what]

    def report(self, order: Order, state: State) -> Report | None:  # noqa: ARG002 - it sends none
        return None

    def incoming(self, url: str, *, phone: int, text: str) -> Report:
        raise NotImplementedError("the Probe server sends no replies")


_ANSWERS: Final[Mapping[str, Reply]] = {
    "accept": Reply(200, b'{"code":0,"message":"OK"}'),
    "duplicate": Reply(409, b'{"code":409,"message":"duplicate id"}'),
    "full": Reply(503, b'{"code":503,"message":"the ledger is full"}'),
    "error_500": Reply(500, b'{"code":500,"message":"internal error"}'),
    "throttle_429": Reply(429, b'{"code":429,"message":"too many requests"}'),
    "refuse_400": Reply(400, b'{"code":400,"message":"refused"}'),
    "soft_refusal": Reply(200, b'{"code":7,"message":"the operator is busy"}'),
    "unauthorized_401": Reply(401, b'{"code":401,"message":"unauthorized"}'),
}
