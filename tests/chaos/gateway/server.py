"""The scripted gateway: speaks the gateway's contract, does whatever it is told to, and keeps a ledger of every call.

    python tests/chaos/gateway/server.py --port N --ledger FILE [--control-port N] [--seed S]

prints `ready PORT` and then `control PORT`, and ends on SIGTERM or when its stdin closes. Both ports answer
`PUT /control` (`Control`), `GET /control` and `GET /summary`; in the mode `refuse` only the second one does.

The product's sandbox stands on an HTTP server, so it can neither write half an answer nor stop listening, and it notes
acceptances alone. The checker needs the first byte and the end of every call.
"""

import argparse
import asyncio
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import uvloop
from msgspec import Struct

if not __package__:  # started as a script
    sys.path[0] = str(Path(__file__).parents[2])

from chaos.gateway.connection import Connection
from chaos.gateway.ledger import Ledger, Order
from chaos.gateway.reactions import Control, Reaction, react, reaction_named

HOST = "127.0.0.1"
HEARTBEAT_S = 0.05


class Summary(Struct, frozen=True):
    """`repeats` counts acceptances after the first of an id; `greatest_lag_s` how late a call may have been noted."""

    calls: int
    under_way: int
    accepted: int
    unique_ids: int
    repeats: int
    broken: int
    ended: dict[str, int]
    greatest_lag_s: float


class Gateway:
    """One gateway on two ports, see `listening`. Its control may be replaced at any time; calls under way keep the
    one they began with.
    """

    def __init__(self, ledger: Ledger, control: Control) -> None:
        self.port = 0
        self.control_port = 0
        self.control = control
        self.ended: Counter[str] = Counter()
        self.calls = 0
        self.broken = 0
        self.connections: set[Connection] = set()
        self.ledger = ledger
        self._server: asyncio.Server | None = None
        self._control_server: asyncio.Server | None = None
        self._greatest_lag_s = 0.0

    async def open(self, port: int, control_port: int) -> None:
        self._control_server, self.control_port = await self._listen(control_port)
        self._server, self.port = await self._listen(port)
        await self.change({})

    async def close(self) -> None:
        for server in filter(None, (self._server, self._control_server)):
            server.close()
        self._reset(self.connections)
        await asyncio.sleep(0)  # connections that were reset write their last line now
        self.ledger.close()

    async def change(self, given: dict[str, Any]) -> Control:
        """msgspec.ValidationError for a field or a reaction there is none of."""
        self.control = msgspec.convert(msgspec.structs.asdict(self.control) | given, Control)
        if self.control.mode == "refuse" and self._server:
            self._server.close()
            self._server = None
            self._reset(connection for connection in self.connections if connection.port == self.port)
        elif self.control.mode != "refuse" and not self._server:
            self._server, _ = await self._listen(self.port)
        if self.control.mode != "hold":
            for connection in self._held():
                connection.release()
        return self.control

    def release_oldest(self) -> None:
        """In the mode `hold`: the call that has waited longest is answered."""
        self._held()[0].release()

    def summary(self) -> Summary:
        accepted, unique = sum(self.ledger.accepted_ids.values()), len(self.ledger.accepted_ids)
        return Summary(
            calls=self.calls,
            under_way=self.calls - self.ended.total(),
            accepted=accepted,
            unique_ids=unique,
            repeats=accepted - unique,
            broken=self.broken,
            ended=dict(self.ended),
            greatest_lag_s=self._greatest_lag_s,
        )

    def reaction_to(self, order: Order) -> tuple[Reaction, float, float]:
        """With its latency and its chance."""
        name, latency_s, chance = react(self.control, order.id, self.ledger.calls_of[order.id])
        reaction = reaction_named(name)
        if reaction.accepts and self.control.recognises_ids and order.id in self.ledger.accepted_ids:
            reaction = reaction_named("duplicate")
        return reaction, latency_s, chance

    async def measure_lag(self) -> None:
        while True:
            due = time.monotonic() + HEARTBEAT_S
            await asyncio.sleep(HEARTBEAT_S)
            self._greatest_lag_s = max(self._greatest_lag_s, time.monotonic() - due)

    def _held(self) -> list[Connection]:
        """In the order of their calls."""
        held = (connection for connection in self.connections if connection.is_held)
        return sorted(held, key=lambda connection: connection.call or 0)

    async def _listen(self, port: int) -> tuple[asyncio.Server, int]:
        server = await asyncio.get_running_loop().create_server(lambda: Connection(self), HOST, port)
        return server, int(server.sockets[0].getsockname()[1])

    def _reset(self, connections: Iterable[Connection]) -> None:
        for connection in list(connections):
            connection.reset()


@asynccontextmanager
async def listening(path: Path, *, port: int = 0, control_port: int = 0, seed: int = 0) -> AsyncIterator[Gateway]:
    """Run a gateway in this process, with its ledger at `path`."""
    gateway = Gateway(Ledger(path), Control(seed=seed))
    await gateway.open(port, control_port)
    measuring = asyncio.create_task(gateway.measure_lag())
    try:
        yield gateway
    finally:
        measuring.cancel()
        await gateway.close()


async def _serve(chosen: argparse.Namespace) -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGINT, stop.set)
    threading.Thread(target=_await_end_of_stdin, args=(loop, stop), daemon=True).start()
    ports = {"port": chosen.port, "control_port": chosen.control_port}
    async with listening(chosen.ledger, **ports, seed=chosen.seed) as gateway:
        sys.stdout.write(f"ready {gateway.port}\ncontrol {gateway.control_port}\n")
        sys.stdout.flush()
        await stop.wait()


def _await_end_of_stdin(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    while os.read(0, 1024):  # not sys.stdin: its lock would be held at exit
        pass
    loop.call_soon_threadsafe(stop.set)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--control-port", type=int, default=0)
    parser.add_argument("--ledger", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    uvloop.run(_serve(_arguments()))
