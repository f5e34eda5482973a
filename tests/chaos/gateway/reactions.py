"""What the scripted gateway may do with one call, byte by byte. Drawn as the sandbox draws, so that a run replays."""

import gzip
from collections.abc import Callable
from functools import cache
from typing import Final

import msgspec
from msgspec import Struct

from mailing.gateway.sandbox.behaviour import choose, draws
from mailing.gateway.sandbox.dialects.dialect import Order


class Control(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the gateway behaves. `PUT /control` changes the fields it names and leaves the others as they are.

    `mix` holds the chance of each reaction, by name or as `status:418`; what is left over is accepted. `script` comes
    first: its n-th reaction is that to the n-th call of every id. `retry_after` goes out verbatim with 429 and
    throttle_503; null leaves it out. `mode`: normal · refuse (nothing listens, open connections are reset) · hang
    (calls are read and not answered) · hold (as normal, but answers wait for the next mode) · a reaction, for all.
    `latency_s` lies between acceptance and answer; `hang_s` is how long a hanging call stays open.
    """

    mix: dict[str, float] = {}
    script: list[str] = []
    mode: str = "normal"
    latency_s: float = 0.0
    recognises_ids: bool = False
    retry_after: str | None = "0"
    hang_s: float = 30.0
    seed: int = 0

    def __post_init__(self) -> None:
        modes = [] if self.mode in ("normal", "refuse", "hold") else [self.mode]
        for name in (*self.mix, *self.script, *modes):
            reaction_named(name)
        if sum(self.mix.values()) > 1 + 1e-9 or min(self.mix.values(), default=0) < 0:
            raise ValueError("the chances in mix must not be negative, nor add up to more than 1")


Payload = Callable[[Order, Control, float], bytes]


class Reaction(Struct, frozen=True, kw_only=True):
    """`how` is what the ledger calls its end; `payload` gets the order, the control and a chance in [0, 1)."""

    how: str
    payload: Payload
    accepts: bool = False
    hangs: bool = False
    drips: bool = False
    """One byte a second."""
    closes: bool = False
    """After the payload; at once where there is none."""


def http(status: int, body: bytes, *headers: str, kind: str = "application/json") -> bytes:
    lines = (f"HTTP/1.1 {status} X", f"Content-Type: {kind}", f"Content-Length: {len(body)}", *headers)
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def reaction_named(name: str) -> Reaction:
    """ValueError for a name there is none of."""
    if name.startswith("status:"):
        return _status(int(name.removeprefix("status:")))
    if name not in REACTIONS:
        raise ValueError(f"there is no reaction {name!r}; there are status:N, {', '.join(REACTIONS)}")
    return REACTIONS[name]


def react(control: Control, message_id: int, nth_call: int) -> tuple[str, float]:
    """Return the name of the reaction to the nth call (from 1) of an id, and a number in [0, 1)."""
    first, second = draws(control.seed, message_id, nth_call, count=2)
    if control.mode not in ("normal", "hold"):
        return control.mode, second
    if nth_call <= len(control.script):
        return control.script[nth_call - 1], second
    return choose(control.mix.items(), first) or "accept", second


def _status(status: int) -> Reaction:
    body = msgspec.json.encode({"code": status, "message": "by request"})
    if status == 429:
        return Reaction(how="answered 429", payload=_throttle(429, body))
    return Reaction(how=f"answered {status}", payload=_always(http(status, body)))


def _always(payload: bytes) -> Payload:
    return lambda _order, _control, _chance: payload


def _throttle(status: int, body: bytes) -> Payload:
    def payload(_order: Order, control: Control, _chance: float) -> bytes:
        return http(status, body, *([] if control.retry_after is None else [f"Retry-After: {control.retry_after}"]))

    return payload


def _garbage(_order: Order, _control: Control, chance: float) -> bytes:
    body = GARBAGE[int(chance * len(GARBAGE))]
    return http(200, body, kind="text/html")


def _another_id(order: Order, _control: Control, _chance: float) -> bytes:
    return http(200, b'{"code":0,"message":"OK","id":%d}' % (order.id + 1))


@cache
def _gzip_bomb() -> bytes:
    """Made when it is first asked for, because it takes 0.1 s."""
    return http(200, gzip.compress(b" " * 50_000_000), "Content-Encoding: gzip")


GARBAGE: Final = (
    b"<!doctype html><title>Maintenance</title>",
    b"",
    b"null",
    b"[]",
    b'"0"',
    b'{"code":"0"}',
    b'{"code":0.0}',
    b'{"code":true}',
    b'{"message":"OK"}',
    b'{"code":NaN}',
    b"[" * 20_000,
    b"\xef\xbb\xbf" + b'{"code":',
    '{"code":0'.encode("utf-16"),
)
OK: Final = b'{"code":0,"message":"OK"}'
ACCEPTED: Final = http(200, OK)
CHUNKED: Final = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
NOTHING: Final = _always(b"")

# Where the answer breaks, the message was accepted: the hostile case. `garbage` and plain statuses never accept.
REACTIONS: Final[dict[str, Reaction]] = {
    "accept": Reaction(how="answered 200", payload=_always(ACCEPTED), accepts=True),
    "duplicate": Reaction(how="answered 409", payload=_always(http(409, b'{"code":409,"message":"duplicate id"}'))),
    "error_500": _status(500),
    "throttle_429": _status(429),
    "throttle_503": Reaction(how="answered 503", payload=_throttle(503, b'{"code":503}')),
    "refuse_400": _status(400),
    "unauthorized_401": _status(401),
    "soft_refusal": Reaction(how="answered 200", payload=_always(http(200, b'{"code":7,"message":"busy"}'))),
    "redirect": Reaction(how="answered 302", payload=_always(http(302, b"", "Location: http://redirected.invalid/"))),
    "garbage": Reaction(how="answered 200", payload=_garbage),
    "hang": Reaction(how="hung", payload=NOTHING, hangs=True, closes=True),
    "drop": Reaction(how="dropped", payload=NOTHING, closes=True),
    "accept_then_drop": Reaction(how="dropped", payload=NOTHING, accepts=True, closes=True),
    "accept_then_hang": Reaction(how="hung", payload=NOTHING, accepts=True, hangs=True, closes=True),
    "accept_then_500": Reaction(how="answered 500", payload=_always(http(500, b'{"code":500}')), accepts=True),
    "answer_then_close": Reaction(how="answered 200", payload=_always(ACCEPTED), accepts=True, closes=True),
    "another_id": Reaction(how="answered 200", payload=_another_id, accepts=True),
    "drip": Reaction(how="dripped", payload=_always(ACCEPTED), accepts=True, drips=True),
    "invalid_http": Reaction(
        how="invalid_http", payload=_always(b"SMSC/0.9 yes\r\n\x00\xff\r\n\r\n"), accepts=True, closes=True
    ),
    "truncated": Reaction(how="truncated", payload=_always(ACCEPTED[:-5]), accepts=True, closes=True),
    "short_length": Reaction(
        how="short_length", payload=_always(ACCEPTED.replace(b"Length: 25", b"Length: 9")), accepts=True
    ),
    "bad_chunks": Reaction(how="bad_chunks", payload=_always(CHUNKED + b"zz\r\n" + OK), accepts=True, closes=True),
    "huge": Reaction(
        how="huge", payload=lambda *_: http(200, b" " * 1_000_000).replace(b"h: 1", b"h: 1000"), accepts=True
    ),
    "gzip_bomb": Reaction(how="answered 200", payload=lambda *_: _gzip_bomb(), accepts=True),
}
