"""One connection of the scripted gateway: raw HTTP/1.1 with keep-alive, so that anything can be sent, valid or not."""

import asyncio
import re
import time
from collections.abc import Callable
from typing import Any, Protocol, cast

import msgspec

from chaos.gateway.ledger import Ledger
from chaos.gateway.reactions import Control, Reaction, http
from mailing.gateway.sandbox.dialects.dialect import Order

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
END_OF_HEAD = b"\r\n\r\n"

_read_order = msgspec.json.Decoder(Order).decode


class Request(msgspec.Struct, frozen=True):
    method: str
    path: str
    body: bytes
    at: float
    """When its first byte came."""


class Host(Protocol):
    """What a connection needs of its gateway."""

    control: Control
    ledger: Ledger
    connections: set["Connection"]

    def reaction_to(self, order: Order) -> tuple[Reaction, float]: ...
    def summary(self) -> msgspec.Struct: ...
    async def change(self, given: dict[str, Any]) -> Control: ...


class Connection(asyncio.Protocol):
    def __init__(self, host: Host) -> None:
        self.port = 0
        self._host = host
        self._buffer = bytearray()
        self._first_byte_at = 0.0
        self._busy = False
        self.call: int | None = None  # its number, while it is under way
        self._held: Callable[[], None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are no subclass
        self.port = transport.get_extra_info("sockname")[1]
        self._host.connections.add(self)

    def connection_lost(self, _error: Exception | None) -> None:
        self._host.connections.discard(self)
        self._forget_answer()
        if self.call is not None:
            self._end("client left")
        elif self._buffer:
            self._host.ledger.broken(time.time())

    def data_received(self, data: bytes) -> None:
        if not self._buffer:
            self._first_byte_at = time.time()
        self._buffer += data
        self._read_on()

    def reset(self) -> None:
        if self.call is not None:
            self._end("reset")
        self._forget_answer()
        self._buffer.clear()
        self._transport.abort()

    @property
    def is_held(self) -> bool:
        return self._held is not None

    def release(self) -> None:
        """Send the answer that was held back."""
        held, self._held = self._held, None
        if held:
            held()

    def _forget_answer(self) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = self._held = None

    def _read_on(self) -> None:
        while not self._busy and (request := self._next_request()):
            self._serve(request)

    def _next_request(self) -> Request | None:
        head, found, rest = bytes(self._buffer).partition(END_OF_HEAD)
        if not found:
            return None
        length = LENGTH.search(head)
        size = int(length[1]) if length else 0
        if len(rest) < size:
            return None
        del self._buffer[: len(head) + len(END_OF_HEAD) + size]
        method, path, *_ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
        return Request(method, path, rest[:size], self._first_byte_at)

    def _serve(self, request: Request) -> None:
        match request.method, request.path:
            case "POST", path if path.startswith("/v1/send/"):
                self._take(request)
            case "GET", "/summary":
                self._answer_json(200, self._host.summary())
            case "PUT", "/control":
                self._busy = True
                task = asyncio.create_task(self._change(request.body))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            case _:
                self._answer_json(404, {"message": "there is no such path"})

    async def _change(self, body: bytes) -> None:
        try:
            control = await self._host.change(msgspec.json.decode(body, type=dict[str, Any]))
        except (msgspec.ValidationError, msgspec.DecodeError) as error:
            self._answer_json(400, {"message": str(error)})
        else:
            self._answer_json(200, control)
        self._busy = False
        self._read_on()

    def _answer_json(self, status: int, value: object) -> None:
        self._transport.write(http(status, msgspec.json.encode(value)))

    def _take(self, request: Request) -> None:
        """Accept first and wait afterwards, as a gateway does that answers late."""
        order = _order(request)
        if order is None:
            self._host.ledger.broken(time.time())
            self._answer_json(400, {"code": 400, "message": "the body must be an order with the path's id"})
            return
        ledger, self._busy = self._host.ledger, True
        self.call = ledger.began(order, request.at)
        reaction, chance = self._host.reaction_to(order)
        if reaction.accepts:
            ledger.accepted(self.call, order, time.time())
        control = self._host.control
        payload = reaction.payload(order, control, chance)
        latency_s = control.latency_s + (control.hang_s if reaction.hangs else 0.0)
        if control.mode == "hold":
            self._held = lambda: self._react(reaction, payload)
        elif latency_s:
            self._timer = self._loop.call_later(latency_s, self._react, reaction, payload)
        else:
            self._react(reaction, payload)

    def _react(self, reaction: Reaction, payload: bytes) -> None:
        self._timer = None
        if reaction.drips and len(payload) > 1:
            self._transport.write(payload[:1])
            self._timer = self._loop.call_later(1.0, self._react, reaction, payload[1:])
            return
        self._end(reaction.how)
        self._transport.write(payload)
        if reaction.closes:
            self._buffer.clear()
            self._leave(at_once=not payload)
            return
        self._busy = False
        self._read_on()

    def _leave(self, *, at_once: bool) -> None:
        if at_once:
            self._transport.abort()
        else:
            self._transport.close()

    def _end(self, how: str) -> None:
        assert self.call is not None
        self._host.ledger.ended(self.call, how, time.time())
        self.call = None


def _order(request: Request) -> Order | None:
    try:
        order = _read_order(request.body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return order if request.path == f"/v1/send/{order.id}" else None
