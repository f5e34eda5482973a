"""The scripted gateway: speaks the gateway's contract, does whatever it is told to, and keeps a ledger of every call.

    python tests/chaos/gateway/server.py --ledger FILE [--seed S]

prints `ready PORT` and then `control PORT`, and ends on SIGTERM or when its stdin closes. Both ports answer
`PUT /control` (`Control`) and `GET /summary` (`Summary`); in the mode `refuse` only the second one does.

The product's sandbox stands on an HTTP server, so it can neither write half an answer nor stop listening, and it notes
acceptances alone. The checker needs the first byte and the end of every call.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

if not __package__:  # started as a script
    sys.path[0] = str(Path(__file__).parents[2])

from chaos.gateway.connection import Connection
from chaos.gateway.ledger import Ledger
from chaos.gateway.reactions import Control, Reaction, react, reaction_named
from mailing.cli.runtime import run, until_signal
from mailing.gateway.sandbox.dialects.dialect import Order
from mailing.process.supervisor import exit_with_parent

HOST = "127.0.0.1"
HEARTBEAT_S = 0.05


class Summary(Struct, frozen=True):
    """`greatest_lag_s` is how late a call may have been noted."""

    under_way: int
    greatest_lag_s: float


class Gateway:
    """One gateway on two ports, see `listening`. Its control may be replaced at any time; calls under way keep the
    one they began with.
    """

    def __init__(self, ledger: Ledger, control: Control) -> None:
        self.port = 0
        self.control_port = 0
        self.control = control
        self.connections: set[Connection] = set()
        self.ledger = ledger
        self._server: asyncio.Server | None = None
        self._control_server: asyncio.Server | None = None
        self._greatest_lag_s = 0.0

    async def open(self) -> None:
        self._control_server, self.control_port = await self._listen()
        self._server, self.port = await self._listen()
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
        return Summary(self.ledger.under_way, self._greatest_lag_s)

    def reaction_to(self, order: Order) -> tuple[Reaction, float]:
        """With its chance."""
        name, chance = react(self.control, order.id, self.ledger.calls_of[order.id])
        reaction = reaction_named(name)
        if reaction.accepts and self.control.recognises_ids and order.id in self.ledger.accepted_ids:
            reaction = reaction_named("duplicate")
        return reaction, chance

    async def measure_lag(self) -> None:
        while True:
            due = time.monotonic() + HEARTBEAT_S
            await asyncio.sleep(HEARTBEAT_S)
            self._greatest_lag_s = max(self._greatest_lag_s, time.monotonic() - due)

    def _held(self) -> list[Connection]:
        """In the order of their calls."""
        held = (connection for connection in self.connections if connection.is_held)
        return sorted(held, key=lambda connection: connection.call or 0)

    async def _listen(self, port: int = 0) -> tuple[asyncio.Server, int]:
        server = await asyncio.get_running_loop().create_server(lambda: Connection(self), HOST, port)
        return server, int(server.sockets[0].getsockname()[1])

    def _reset(self, connections: Iterable[Connection]) -> None:
        for connection in list(connections):
            connection.reset()


@asynccontextmanager
async def listening(path: Path, *, seed: int = 0) -> AsyncIterator[Gateway]:
    """Run a gateway in this process, with its ledger at `path`."""
    gateway = Gateway(Ledger(path), Control(seed=seed))
    await gateway.open()
    measuring = asyncio.create_task(gateway.measure_lag())
    try:
        yield gateway
    finally:
        measuring.cancel()
        await gateway.close()


async def _serve(given: argparse.Namespace, stop: asyncio.Event) -> None:
    async with listening(given.ledger, seed=given.seed) as gateway:
        print(f"ready {gateway.port}\ncontrol {gateway.control_port}", flush=True)
        await stop.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ledger", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    exit_with_parent()
    run(until_signal(lambda stop: _serve(given, stop)))


if __name__ == "__main__":
    main()
