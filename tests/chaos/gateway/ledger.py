"""The gateway's ledger: one JSON line for each thing that happens to a call, written before its answer leaves.

It survives a kill -9 with at most its last line cut. {"n", "event", "at"} and, by event: began {"id", "phone", "text"}
· accepted · ended {"how"} · broken: a request that never became whole or is no order.
"""

import os
from collections import Counter
from pathlib import Path

import msgspec
from msgspec import Struct

from chaos.checker.facts import Call
from mailing.gateway.sandbox.dialects.dialect import Order


class Line(Struct, frozen=True, omit_defaults=True):
    n: int
    event: str
    at: float
    id: int | None = None
    phone: int = 0
    text: str = ""
    how: str = ""


_encode = msgspec.json.Encoder().encode


class Ledger:
    """Appends to what an earlier gateway left. `calls_of` and `accepted_ids` count by id, from its first line on;
    `under_way` counts calls of this gateway.
    """

    def __init__(self, path: Path) -> None:
        self.calls_of: Counter[int] = Counter()
        self.accepted_ids: Counter[int] = Counter()
        self.under_way = 0
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._last = 0
        self.last_at = 0.0
        self._read_back(path)

    def began(self, order: Order, at: float) -> int:
        """Return the call's number."""
        self._last += 1
        self.under_way += 1
        self.calls_of[order.id] += 1
        self._write(Line(self._last, "began", at, order.id, order.phone, order.text))
        return self._last

    def accepted(self, n: int, order: Order, at: float) -> None:
        self.accepted_ids[order.id] += 1
        self._write(Line(n, "accepted", at))

    def ended(self, n: int, how: str, at: float) -> None:
        self.under_way -= 1
        self._write(Line(n, "ended", at, how=how))

    def broken(self, at: float) -> None:
        self._last += 1
        self._write(Line(self._last, "broken", at))

    def close(self) -> None:
        os.close(self._file)

    def _write(self, line: Line) -> None:
        os.write(self._file, _encode(line) + b"\n")
        self.last_at = line.at

    def _read_back(self, path: Path) -> None:
        lines = _whole_lines(path)
        os.ftruncate(self._file, sum(len(line) for line in lines))
        self._last = max((_decode(line).n for line in lines), default=0)
        calls = calls_in(path)
        self.calls_of.update(call.id for call in calls)
        self.accepted_ids.update(call.id for call in calls if call.accepted_at is not None)


def calls_in(path: Path) -> list[Call]:
    """Every call that was read to its end, in the order of their first bytes."""
    calls: dict[int, Call] = {}
    for line in map(_decode, _whole_lines(path)):
        if line.event == "began" and line.id is not None:
            calls[line.n] = Call(line.n, line.id, line.phone, line.text, line.at)
        elif line.event == "accepted":
            calls[line.n].accepted_at = line.at
        elif line.event == "ended":
            calls[line.n].ended_at, calls[line.n].how = line.at, line.how
    return sorted(calls.values(), key=lambda call: call.began_at)


class LedgerFollower:
    """Reads a ledger while it grows, each line once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position = 0
        self._ids: dict[int, int] = {}

    def accepted(self) -> list[int]:
        """Return the ids accepted since the last look, one for each acceptance."""
        with self._path.open("rb") as file:
            file.seek(self._position)
            lines, end, _ = file.read().rpartition(b"\n")
        self._position += len(lines) + len(end)
        found = []
        for line in map(_decode, lines.splitlines()):
            if line.event == "began" and line.id is not None:
                self._ids[line.n] = line.id
            elif line.event == "accepted":
                found.append(self._ids[line.n])
            elif line.event == "ended":
                self._ids.pop(line.n, None)
        return found


_decode = msgspec.json.Decoder(Line).decode


def _whole_lines(path: Path) -> list[bytes]:
    return [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
