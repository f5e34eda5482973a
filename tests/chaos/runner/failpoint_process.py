"""Runs a command of `mailing` that ends itself with SIGKILL at named points, as ordered.

    python failpoint_process.py worker-1 DIRECTORY worker

An order is an empty file in DIRECTORY: `worker-1/claim.after-17-3` is order 17, to die when `claim.after` is reached
for the third time from now on. Several may wait, for the same point too, while a process is frozen. Whoever carries it
out first makes `17.json`, which only one process can: an order given to all workers kills the first that gets there.

Two points lie inside the engine and are reached by a patch of it here: `call.half_written`, half of the request's bytes
are in the socket; `call.written`, all of them are.
"""

import json
import os
import signal
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from mailing import failpoints
from mailing.cli import main as cli
from mailing.gateway.http_transport import Exchange
from mailing.process.supervisor import exit_with_parent

WRITTEN_PART: Final = {"call.half_written": 0.5, "call.written": 1.0}


class Orders:
    def __init__(self, name: str, directory: Path) -> None:
        self._name = name
        self._directory = directory
        self._hits: Counter[int] = Counter()

    def reached(self, point: str) -> None:
        if point not in WRITTEN_PART and self.is_to_die(point):
            die()

    def is_to_die(self, point: str) -> bool:
        """Whether an order is due here, and this process is the one to carry it out."""
        for file in (self._directory / self._name).glob(f"{point}-*"):
            order, hits = map(int, file.name.split("-")[1:])
            self._hits[order] += 1
            if self._hits[order] >= hits:
                file.unlink()
                if self._is_first(order, point):
                    return True
        return False

    def _is_first(self, order: int, point: str) -> bool:
        """Return True to one process; then it stands written that it died."""
        death = {"order": order, "point": point, "name": self._name, "pid": os.getpid()}
        death["at"] = datetime.now(UTC).isoformat()
        draft = self._directory / f"{order}.{os.getpid()}"
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
        transport = exchange._connection.transport  # noqa: SLF001 - its socket is not shown
        if transport and (due := next(filter(orders.is_to_die, WRITTEN_PART), None)):
            os.write(transport.get_extra_info("socket").fileno(), request[: int(len(request) * WRITTEN_PART[due])])
            die()
        whole(exchange, request)

    Exchange.write = write  # type: ignore[method-assign, assignment]


def main(name: str, directory: str, *command: str) -> None:
    orders = Orders(name, Path(directory))
    failpoints.enable(orders.reached)
    write_in_parts(orders)
    sys.argv = ["mailing", *command]
    cli.main()


if __name__ == "__main__":
    exit_with_parent()
    main(*sys.argv[1:])
