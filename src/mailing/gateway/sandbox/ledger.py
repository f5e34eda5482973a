"""What the sandbox accepted, in order: the evidence that sent messages are compared with."""

import os
from array import array
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

MAX_ENTRIES: Final = 2_000_000


class Entry(msgspec.Struct, frozen=True):
    """One acceptance. `seq` counts from 1; `repeats` says how often this id had been accepted before."""

    seq: int
    id: int
    phone: int
    text: str
    at: datetime
    repeats: int


class Ledger:
    """Columns, not objects: 32 bytes an acceptance and one dictionary entry an id; equal texts are kept once.

    With a path, each acceptance is one JSON line, written before `accept` returns, and the file is read back at the
    start. Raises ValueError for a file that is not a ledger, OSError when it cannot be written.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._empty()
        self._file: int | None = None
        if path is not None:
            self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
            self._read_back(path)

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def is_full(self) -> bool:
        """Whether it accepts no more: a ledger that forgot would be false evidence."""
        return len(self._ids) >= MAX_ENTRIES

    @property
    def unique_ids(self) -> int:
        return len(self._first)

    @property
    def repeated_ids(self) -> int:
        return len(self._again)

    def knows(self, message_id: int) -> bool:
        return message_id in self._first

    def accept(self, message_id: int, *, phone: int, text: str, at: datetime) -> None:
        if self._file is not None:  # blocks for some microseconds: the line must be written before the answer
            entry = Entry(len(self) + 1, message_id, phone, text, at, self._repeats(message_id))
            os.write(self._file, msgspec.json.encode(entry) + b"\n")
        self._remember(message_id, phone=phone, text=text, at=at)

    def page(self, *, after: int, limit: int) -> list[Entry]:
        return [self._entry(index) for index in range(after, min(after + limit, len(self)))]

    def newest(self, limit: int) -> list[Entry]:
        return [self._entry(index) for index in range(len(self) - 1, max(len(self) - 1 - limit, -1), -1)]

    def of(self, message_id: int) -> list[Entry]:
        if message_id not in self._first:
            return []
        return [self._entry(index) for index in (self._first[message_id], *self._again.get(message_id, ()))]

    def clear(self) -> None:
        if self._file is not None:
            os.ftruncate(self._file, 0)
        self._empty()

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
        self._file = None

    def _empty(self) -> None:
        self._ids = array("q")
        self._phones = array("q")
        self._texts = array("I")
        self._ats = array("d")
        self._nths = array("I")
        self._text_of: list[str] = []
        self._text_index: dict[str, int] = {}
        self._first: dict[int, int] = {}
        self._again: dict[int, list[int]] = {}

    def _repeats(self, message_id: int) -> int:
        return (message_id in self._first) + len(self._again.get(message_id, ()))

    def _remember(self, message_id: int, *, phone: int, text: str, at: datetime) -> None:
        self._nths.append(self._repeats(message_id))
        if message_id in self._first:
            self._again.setdefault(message_id, []).append(len(self))
        else:
            self._first[message_id] = len(self)
        self._texts.append(self._index_of(text))
        self._phones.append(phone)
        self._ats.append(at.timestamp())
        self._ids.append(message_id)

    def _index_of(self, text: str) -> int:
        index = self._text_index.setdefault(text, len(self._text_of))
        if index == len(self._text_of):
            self._text_of.append(text)
        return index

    def _entry(self, index: int) -> Entry:
        text, at = self._text_of[self._texts[index]], datetime.fromtimestamp(self._ats[index], UTC)
        return Entry(index + 1, self._ids[index], self._phones[index], text, at, self._nths[index])

    def _read_back(self, path: Path) -> None:
        decoder = msgspec.json.Decoder(Entry)
        whole = 0
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if not line.endswith(b"\n"):  # a kill in the middle of a line, whose call was never answered
                    os.truncate(path, whole)
                    return
                try:
                    entry = decoder.decode(line)
                except (msgspec.DecodeError, UnicodeDecodeError):
                    raise ValueError(f"line {number} of {path.name} is not a ledger entry") from None
                self._remember(entry.id, phone=entry.phone, text=entry.text, at=entry.at)
                whole += len(line)
