"""The judging of a file, beside the event loop and within a budget: its bytes are a stranger's.

One thread judges for the whole process, a piece at a time, so that several imports at once leave as much of the
processor to requests as one does.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Final, TypeVar

from mailing.clients.csv_reader import CsvReader, ParsedRow
from mailing.errors import FieldError, Invalid

T = TypeVar("T")

CHUNK_BYTES = 32 * 1024  # bytes, judged in about 2 ms
BASE_BUDGET_S = 10.0
BUDGET_S_PER_MB = 1.0  # a file of good rows takes a thirtieth of it

_THREAD: Final = ThreadPoolExecutor(max_workers=1, thread_name_prefix="judging")


async def run_in_thread(work: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(_THREAD, work)


class RowValidator:
    """Writes the right rows into `spool`, in COPY's text format, and counts them in `accepted`.

    `feed` and `finish` raise Invalid, as those of `reading` do, and where judging has taken more processor time than
    GRACE_S and S_PER_MB for each million bytes.
    """

    def __init__(self, reading: CsvReader, spool: IO[bytes]) -> None:
        self._reading = reading
        self._spool = spool
        self._bytes = 0
        self._spent_s = 0.0
        self.accepted = 0

    def feed(self, piece: bytes) -> None:
        self._bytes += len(piece)
        self._keep(lambda: self._reading.feed(piece))

    def finish(self) -> None:
        self._keep(self._reading.finish)
        self._spool.seek(0)

    def _keep(self, judged: Callable[[], Sequence[ParsedRow]]) -> None:
        began = time.thread_time()
        rows = judged()
        self._spool.write("".join(_staged(rows)).encode())
        self.accepted += len(rows)
        self._spent_s += time.thread_time() - began
        if self._spent_s > BASE_BUDGET_S + BUDGET_S_PER_MB * self._bytes / 1e6:
            raise Invalid(FieldError("body", "takes too long to read; split the file, and look for rows that are none"))


def _staged(rows: Sequence[ParsedRow]) -> Iterator[str]:
    """No value has a tab or a line break; only a tag can hold a backslash."""
    for line, phone, code, tag, zone in rows:
        label = "\\N" if tag is None else tag.replace("\\", "\\\\")
        yield f"{line}\t{phone}\t{code}\t{label}\t{zone}\n"
