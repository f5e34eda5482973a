"""The messages that the sandbox accepted, in order: evidence to compare sent messages with."""

import os
import sys
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec
from msgspec.structs import replace

from mailing.errors import MailingError

MAX_ENTRIES: Final = 2_000_000
BEGINNING: Final = b'{"seq":'  # of each line


class Entry(msgspec.Struct, frozen=True):
    """One acceptance. `seq` counts from 1; `repeats` says how often this id had been accepted before."""

    seq: int
    id: int
    phone: int
    text: str
    at: datetime
    repeats: int


class Ledger:
    """About 400 bytes an acceptance; equal texts are kept once.

    With a path, each acceptance is one JSON line, written before `accept` returns, and the file is read back at the
    start. Raises MailingError for a file that is not a ledger or cannot be opened, and leaves it as it is.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._empty()
        self._file: int | None = None
        if path is not None:
            try:
                self._open(path)
            except (OSError, ValueError) as error:
                reason = error.strerror if isinstance(error, OSError) else error
                raise MailingError(f"{path} cannot be the ledger ({reason}); name another file") from None

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def is_full(self) -> bool:
        """Whether it accepts no more: a ledger that forgot would be false evidence."""
        return len(self._entries) >= MAX_ENTRIES

    @property
    def unique_ids(self) -> int:
        return len(self._by_id)

    def knows(self, message_id: int) -> bool:
        return message_id in self._by_id

    def accept(self, message_id: int, *, phone: int, text: str, at: datetime) -> None:
        entry = Entry(len(self) + 1, message_id, phone, text, at, len(self.of(message_id)))
        if self._file is not None:  # blocks for some microseconds: the line must be written before the answer
            os.write(self._file, msgspec.json.encode(entry) + b"\n")
        self._remember(entry)

    def page(self, *, after: int, limit: int) -> list[Entry]:
        return self._entries[after : after + limit]

    def newest(self, limit: int) -> list[Entry]:
        return self._entries[: -limit - 1 : -1]

    def of(self, message_id: int) -> list[Entry]:
        return self._by_id.get(message_id, [])

    def clear(self) -> None:
        if self._file is not None:
            os.ftruncate(self._file, 0)
        self._empty()

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
        self._file = None

    def _empty(self) -> None:
        self._entries: list[Entry] = []
        self._by_id: dict[int, list[Entry]] = {}
        self.repeated_ids = 0

    def _remember(self, entry: Entry) -> None:
        entry = replace(entry, text=sys.intern(entry.text))
        entries = self._by_id.setdefault(entry.id, [])
        entries.append(entry)
        self._entries.append(entry)
        self.repeated_ids += len(entries) == 2

    def _open(self, path: Path) -> None:
        if path.exists() and not path.is_file():
            raise ValueError("it is not a file")
        self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        self._read_back(path)

    def _read_back(self, path: Path) -> None:
        decoder = msgspec.json.Decoder(Entry)
        whole = 0
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                is_cut = not line.endswith(b"\n") and line.startswith(BEGINNING[: len(line)])
                if is_cut:  # a kill in the middle of a line, whose call was never answered
                    os.truncate(path, whole)
                    return
                try:
                    entry = decoder.decode(line)
                except (msgspec.DecodeError, UnicodeDecodeError):
                    raise ValueError(f"line {number} is not a ledger entry") from None
                self._remember(entry)
                whole += len(line)
