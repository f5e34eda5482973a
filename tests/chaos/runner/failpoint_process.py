"""Runs a command of `mailing` that ends itself with SIGKILL at named points, as ordered.

    python worker.py --name worker-1 --deaths DIRECTORY --order 17:claim.after:3 -- worker

Order 17: die when `claim.after` is reached for the third time from now on. More orders may come as lines on standard
input. Whoever carries one out first makes its file in DIRECTORY, which only one process can: an order given to all
workers kills the first that gets there. The end of standard input ends the process.

Two points lie inside the engine and are reached by a patch of it here: `call.half_written`, half of the request's bytes
are in the socket; `call.written`, all of them are.
"""

import argparse
import json
import os
import signal
import sys
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

from mailing import failpoints
from mailing.cli import main as cli
from mailing.gateway.http_transport import Exchange

WRITTEN_PART: Final = {"call.half_written": 0.5, "call.written": 1.0}


@dataclass
class Order:
    number: int
    point: str
    hits_left: int


class Orders:
    """One open order for each point; a newer one takes its place."""

    def __init__(self, name: str, directory: Path) -> None:
        self._name = name
        self._directory = directory
        self._open: dict[str, Order] = {}

    def take(self, line: str) -> None:
        number, point, hits = line.split(":")
        self._open[point] = Order(int(number), point, int(hits))

    def listen(self, lines: Iterable[str]) -> None:
        """In a thread of its own. A blocked event loop can't keep a process alive whose harness is gone."""
        with suppress(EOFError, OSError):
            for line in lines:
                self.take(line.strip())
        os._exit(1)

    def reached(self, point: str) -> None:
        if point not in WRITTEN_PART and self.is_due(point) and self.is_first(point):
            die()

    def is_due(self, point: str) -> bool:
        if (order := self._open.get(point)) is None:
            return False
        order.hits_left -= 1
        return order.hits_left <= 0

    def is_first(self, point: str) -> bool:
        """Whether this process is the one to carry the order out; then it stands written that it did."""
        if (order := self._open.pop(point, None)) is None:
            return False
        death = {"order": order.number, "point": point, "name": self._name, "pid": os.getpid()}
        death["at"] = datetime.now(UTC).isoformat()
        draft = self._directory / f"{order.number}.{os.getpid()}"
        draft.write_text(json.dumps(death))
        try:
            draft.with_suffix(".json").hardlink_to(draft)
        except FileExistsError:
            return False
        return True


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def write_in_parts(orders: Orders) -> None:
    """Of the next request, a part gets into the socket before the end."""
    whole = Exchange.write

    def write(exchange: Exchange, request: bytes) -> None:
        due = next((point for point in WRITTEN_PART if orders.is_due(point)), None)
        transport = exchange._connection.transport  # noqa: SLF001 - its socket is not shown
        if due and transport and orders.is_first(due):
            os.write(transport.get_extra_info("socket").fileno(), request[: int(len(request) * WRITTEN_PART[due])])
            die()
        whole(exchange, request)

    Exchange.write = write  # type: ignore[method-assign, assignment]


def main(arguments: Sequence[str], more_orders: Iterable[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", required=True)
    parser.add_argument("--deaths", type=Path, required=True)
    parser.add_argument("--order", action="append", default=[])
    parser.add_argument("command", nargs="+")
    given = parser.parse_args(arguments)
    orders = Orders(given.name, given.deaths)
    for line in given.order:
        orders.take(line)
    failpoints.enable(orders.reached)
    write_in_parts(orders)
    threading.Thread(target=orders.listen, args=(more_orders,), name="orders", daemon=True).start()
    sys.argv = ["mailing", *given.command]
    cli.main()


def main_of_fork(arguments: Sequence[str], more_orders: Connection) -> None:
    main(arguments, iter(more_orders.recv, None))


if __name__ == "__main__":
    main(sys.argv[1:], sys.stdin)
