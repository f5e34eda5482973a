"""Send a receipt of each message in the stub's log, as Kannel does: one a request, over connections that stay open."""

import asyncio
from collections import deque
from pathlib import Path
from typing import Any

import uvloop

from bench.follow import follow, values
from mailing.receipts.address import receipt_path

CONNECTIONS = 256
LOOK_AGAIN_S = 0.02


class _Connection(asyncio.Protocol):
    def __init__(self, sender: "_Sender") -> None:
        self._sender = sender
        self._answer = b""
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        answer = self._answer + data
        if answer.endswith(b"\r\n\r\n"):  # its body is empty
            self._answer = b""
            self._sender.answered(self, answer)
        else:
            self._answer = answer

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._sender.lost = True


class _Sender:
    def __init__(self, requests: list[bytes]) -> None:
        self._requests = requests
        self._waiting: deque[int] = deque()
        self._idle: deque[_Connection] = deque()  # taken in turn: the API closes one that is unused for 5 s
        self.stored = self.refused = 0
        self.lost = False

    def answered(self, connection: _Connection, answer: bytes) -> None:
        accepted = answer.startswith(b"HTTP/1.1 200")
        self.stored += accepted
        self.refused += not accepted
        if self._waiting:
            connection.transport.write(self._requests[self._waiting.popleft() - 1])
        else:
            self._idle.append(connection)

    def send(self, ids: list[int]) -> None:
        self._waiting.extend(ids)
        while self._waiting and self._idle:
            self._idle.popleft().transport.write(self._requests[self._waiting.popleft() - 1])

    async def connect(self, port: int) -> None:
        for _ in range(CONNECTIONS):
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: _Connection(self), "127.0.0.1", port
            )
            self._idle.append(connection)


async def work(given: dict[str, Any]) -> dict[str, Any]:
    key, port, count = bytes.fromhex(given["key"]), given["port"], given["count"]
    sender = _Sender([_request(key, message_id) for message_id in range(1, count + 1)])
    await sender.connect(port)
    called = _Called(Path(given["log"]))
    while sender.stored + sender.refused < count and not sender.lost:
        sender.send(called.new())
        await asyncio.sleep(LOOK_AGAIN_S)
    return {"stored": sender.stored, "refused": sender.refused}


def _request(key: bytes, message_id: int) -> bytes:
    path = receipt_path(key, "kannel", message_id)
    return f"GET {path}?state=1&reply= HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: Kannel/1.4.5\r\n\r\n".encode()


class _Called:
    """The messages that the stub accepted, each once: a repeated call fails the run, and must not hold it up."""

    def __init__(self, log: Path) -> None:
        self._log = log.open("rb")  # it was empty when the run began
        self._rest = b""
        self._known: set[int] = set()

    def new(self) -> list[int]:
        *lines, self._rest = (self._rest + self._log.read()).split(b"\n")
        ids = {int(line.split()[1].rpartition(b"/")[2]) for line in lines} - self._known
        self._known |= ids
        return list(ids)


if __name__ == "__main__":
    follow(lambda: uvloop.run(work(values())))
