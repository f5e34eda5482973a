"""What the scripted gateway does with a call: whether it takes the message, and what bytes leave it in what manner."""

import math
from hashlib import blake2b
from typing import Annotated, Final

import msgspec

GOOD: Final = b'{"code":0,"message":"OK"}'
HTML: Final = b"<!doctype html><title>Maintenance</title><p>We will be back soon.</p>"
Chance = Annotated[float, msgspec.Meta(ge=0, le=1)]


def http(status: int, body: bytes, *, length: int | None = None, extra: str = "") -> bytes:
    size = len(body) if length is None else length
    head = f"HTTP/1.1 {status} X\r\nContent-Type: text/json\r\nContent-Length: {size}\r\n{extra}\r\n"
    return head.encode("latin-1") + body


class Reaction(msgspec.Struct, frozen=True, kw_only=True):
    """`takes`: the message counts as accepted. `then`: keep, close or reset the connection, hang, or drip."""

    takes: bool
    answer: bytes = b""
    then: str = "keep"


def _chunked(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body


REACTIONS: Final[dict[str, Reaction]] = {
    "accept": Reaction(takes=True, answer=http(200, GOOD)),
    "accept_then_drop": Reaction(takes=True, then="reset"),
    "accept_then_hang": Reaction(takes=True, then="hang"),
    "accept_then_500": Reaction(takes=True, answer=http(500, b'{"code":500}')),
    "truncated": Reaction(takes=True, answer=http(200, GOOD[:9], length=len(GOOD)), then="close"),
    "wrong_length": Reaction(takes=True, answer=http(200, GOOD, length=7), then="close"),
    "bad_chunks": Reaction(takes=True, answer=_chunked(b"zz\r\n" + GOOD + b"\r\n0\r\n\r\n"), then="close"),
    "drip": Reaction(takes=True, answer=http(200, GOOD), then="drip"),
    "close_as_we_write": Reaction(takes=True, answer=http(200, GOOD), then="close"),
    "for_another_id": Reaction(takes=True, answer=http(200, b'{"code":0,"id":1}')),
    "invalid_http": Reaction(takes=False, answer=b"SMSC/0.9 yes\r\n\x00\xff\r\n\r\n", then="close"),
    "garbage": Reaction(takes=False, answer=http(200, HTML)),
    "soft_refusal": Reaction(takes=False, answer=http(200, b'{"code":7,"message":"busy"}')),
    "hang": Reaction(takes=False, then="hang"),
    "drop": Reaction(takes=False, then="reset"),
    "redirect": Reaction(takes=False, answer=http(302, b"", extra="Location: http://127.0.0.1:1/\r\n")),
    **{
        f"error_{status}": Reaction(takes=False, answer=http(status, b'{"code":%d}' % status))
        for status in (400, 401, 403, 404, 405, 408, 413, 415, 418, 422, 425, 500, 502, 503, 504)
    },
}
DUPLICATE: Final = Reaction(takes=False, answer=http(409, b'{"code":409,"message":"duplicate id"}'))


class Script(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`mix` has the chance of each reaction for a call; what is left over is accepted. `retry_after` is sent as it is.

    `mode` is `normal`, `refuse` (nobody listens, connections are reset), the name of one reaction, or `status:503`.
    """

    mix: dict[str, Chance] = {}
    latency_s: Annotated[float, msgspec.Meta(ge=0, le=60)] = 0.0
    recognises_ids: bool = False
    retry_after: str = "0"
    mode: str = "normal"
    hang_s: Annotated[float, msgspec.Meta(ge=0, le=600)] = 30.0

    def __post_init__(self) -> None:
        unknown = self.mix.keys() - REACTIONS.keys() - {"throttle_429", "throttle_503"}
        if unknown or math.fsum(self.mix.values()) > 1 + 1e-9:
            raise ValueError(f"unknown reactions {sorted(unknown)}, or chances of more than 1 together")

    def reaction(self, seed: int, message_id: int, nth: int) -> Reaction:
        """The same for the nth call of an id, in whatever order calls come."""
        if self.mode.startswith("status:"):
            return self._named(self.mode.replace("status:", "error_"))
        if self.mode not in {"normal", "refuse"}:
            return self._named(self.mode)
        drawn = int.from_bytes(blake2b(b"%d:%d:%d" % (seed, message_id, nth), digest_size=8).digest()) / 2**64
        for name, chance in self.mix.items():
            drawn -= chance
            if drawn < 0:
                return self._named(name)
        return REACTIONS["accept"]

    def _named(self, name: str) -> Reaction:
        if name in {"throttle_429", "throttle_503"}:
            extra = f"Retry-After: {self.retry_after}\r\n"
            return Reaction(takes=False, answer=http(int(name[-3:]), b'{"code":429}', extra=extra))
        return REACTIONS[name]
