"""The scripted gateway: the gateway's contract, every fault of it on demand, and a ledger of every call.

    python tests/chaos/gateway.py --port 9001 --control-port 9002 --ledger FILE --seed 1

prints `ready`, and ends on SIGTERM. `PUT /control` on the control port takes a `Script`, `GET /summary` counts. The
ledger is JSON lines, each in the file before the answer it is about leaves; a kill cuts the last one at most:

    {"n":1,"event":"began","at":1790000000.5,"id":7,"phone":79161234567,"text":"…"}   `at`: the first byte came
    {"n":1,"event":"accepted","at":…}   {"n":1,"event":"ended","at":…,"how":"answered 200"}
    {"n":2,"event":"broken","at":…}     a request that never became whole
"""

import argparse
import asyncio
import os
import re
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Final

import msgspec
import uvloop
from aiohttp import web

from chaos.reactions import DUPLICATE, Reaction, Script

HEAD: Final = re.compile(rb"POST /v1/send/(-?\d+) HTTP/1\.1\r\n", re.IGNORECASE)
LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
DRIP_S: Final = 1.0


class Order(msgspec.Struct):
    id: int
    phone: int
    text: str


_order = msgspec.json.Decoder(Order).decode
_line = msgspec.json.Encoder().encode


class ScriptedGateway:
    def __init__(self, *, port: int, ledger: Path, seed: int) -> None:
        self.script = Script()
        self.accepted: set[int] = set()
        self.counts: Counter[str] = Counter()
        self.connections: set[Connection] = set()
        self._calls = 0
        self._calls_of: Counter[int] = Counter()
        self._port = port
        self._seed = seed
        self._ledger = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._server: asyncio.Server | None = None

    def write(self, *entries: dict[str, object]) -> None:
        os.write(self._ledger, b"".join(_line(entry) + b"\n" for entry in entries))

    def number(self) -> int:
        self._calls += 1
        return self._calls

    def react(self, order: Order) -> Reaction:
        if self.script.recognises_ids and order.id in self.accepted:
            return DUPLICATE
        self._calls_of[order.id] += 1
        return self.script.reaction(self._seed, order.id, self._calls_of[order.id])

    async def follow(self, script: Script) -> None:
        self.script = script
        if script.mode == "refuse":
            await self.close()
        elif self._server is None:
            await self.open()

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self), "127.0.0.1", self._port, backlog=1024)

    async def close(self) -> None:
        if self._server:
            self._server.close()
        self._server = None
        for connection in list(self.connections):
            connection.abort()


class Connection(asyncio.Protocol):
    """One call after the other, as keep-alive has it."""

    def __init__(self, gateway: ScriptedGateway) -> None:
        self._gateway = gateway
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._first_byte_at = 0.0
        self._call: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment] # what a TCP server hands in
        self._gateway.connections.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        del error
        self._gateway.connections.discard(self)
        if self._call:
            self._call.cancel()
        elif self._buffer:
            self._gateway.write({"n": self._gateway.number(), "event": "broken", "at": self._first_byte_at})

    def abort(self) -> None:
        if self._transport:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if not self._buffer:
            self._first_byte_at = time.time()
        self._buffer += data
        head, separator, body = self._buffer.partition(b"\r\n\r\n")
        length = LENGTH.search(head + b"\r\n")
        if separator and length and len(body) >= int(length[1]) and not self._call:
            self._buffer = b""
            self._call = asyncio.ensure_future(self._answer(head, body))

    async def _answer(self, head: bytes, body: bytes) -> None:
        gateway, number = self._gateway, self._gateway.number()
        order, path = _order(body), HEAD.match(head)
        if path is None or int(path[1]) != order.id:
            raise ValueError("a call against the contract")
        began = {"n": number, "event": "began", "at": self._first_byte_at, "id": order.id, "phone": order.phone}
        began["text"] = order.text
        reaction, how = gateway.react(order), "client left"
        if reaction.takes:
            gateway.accepted.add(order.id)
            gateway.write(began, {"n": number, "event": "accepted", "at": time.time()})
        else:
            gateway.write(began)
        try:
            if gateway.script.latency_s:
                await asyncio.sleep(gateway.script.latency_s)
            how = await self._give(reaction)
        finally:
            gateway.counts[how] += 1
            gateway.write({"n": number, "event": "ended", "at": time.time(), "how": how})
            self._call = None

    async def _give(self, reaction: Reaction) -> str:
        """Returns how it ended."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return "client left"
        if reaction.then == "hang":
            await asyncio.sleep(self._gateway.script.hang_s)
        if reaction.then in {"hang", "reset"}:
            transport.abort()
            return "dropped"
        if reaction.then == "drip":
            for each in reaction.answer:
                transport.write(bytes([each]))
                await asyncio.sleep(DRIP_S)
        else:
            transport.write(reaction.answer)
        if reaction.then == "close":
            transport.close()
        return f"answered {reaction.answer[9:12].decode('latin-1')}"


def control_of(gateway: ScriptedGateway) -> web.Application:
    async def control(request: web.Request) -> web.Response:
        try:
            script = msgspec.json.decode(await request.read(), type=Script)
        except msgspec.ValidationError as error:
            return web.Response(status=400, text=str(error))
        await gateway.follow(script)
        return web.Response(status=204)

    async def summary(_: web.Request) -> web.Response:
        return web.json_response({"accepted": len(gateway.accepted), "ended": dict(gateway.counts)})

    app = web.Application()
    app.add_routes([web.put("/control", control), web.get("/summary", summary)])
    return app


async def serve(gateway: ScriptedGateway, control_port: int) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    runner = web.AppRunner(control_of(gateway), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", control_port).start()
    await gateway.open()
    print("ready", flush=True)
    await stop.wait()
    await gateway.close()
    await runner.cleanup()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--port", type=int, required=True)
    options.add_argument("--control-port", type=int, required=True)
    options.add_argument("--ledger", type=Path, required=True)
    options.add_argument("--seed", type=int, default=0)
    chosen = options.parse_args()

    async def run() -> None:
        gateway = ScriptedGateway(port=chosen.port, ledger=chosen.ledger, seed=chosen.seed)
        await serve(gateway, chosen.control_port)

    uvloop.run(run())


if __name__ == "__main__":
    main()
