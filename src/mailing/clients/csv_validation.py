"""Validate a file outside the event loop and within a CPU budget: its bytes are untrusted.

One thread validates for the whole process, a chunk at a time, so several concurrent imports leave as much CPU to
requests as one does.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Final, TypeVar

from mailing.clients.csv_reader import CsvReader, ParsedRow
from mailing.errors import Invalid
from mailing.reasons.refusals import RefusalCode, refused_field

T = TypeVar("T")

CHUNK_BYTES = 32 * 1024  # validated in about 2 ms
BASE_BUDGET_S = 10.0
BUDGET_S_PER_MB = 1.0  # a file of valid rows takes a thirtieth of it

_THREAD: Final = ThreadPoolExecutor(max_workers=1, thread_name_prefix="csv-validation")


async def run_in_thread(work: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(_THREAD, work)


class RowValidator:
    """Writes the valid rows into `spool`, in COPY's text format, and counts them in `accepted`.

    `feed` and `finish` raise Invalid as those of `reader` do, and if validation has taken more CPU time than
    BASE_BUDGET_S plus BUDGET_S_PER_MB for each million bytes.
    """

    def __init__(self, reader: CsvReader, spool: IO[bytes]) -> None:
        self._reader = reader
        self._spool = spool
        self._bytes = 0
        self._spent_s = 0.0
        self.accepted = 0

    def feed(self, chunk: bytes) -> None:
        self._bytes += len(chunk)
        self._write(lambda: self._reader.feed(chunk))

    def finish(self) -> None:
        self._write(self._reader.finish)
        self._spool.seek(0)

    def _write(self, parse: Callable[[], Sequence[ParsedRow]]) -> None:
        started = time.thread_time()
        rows = parse()
        self._spool.write("".join(_staged(rows)).encode())
        self.accepted += len(rows)
        self._spent_s += time.thread_time() - started
        if self._spent_s > BASE_BUDGET_S + BUDGET_S_PER_MB * self._bytes / 1e6:
            raise Invalid(refused_field("body", RefusalCode.slow_validation))


def _staged(rows: Sequence[ParsedRow]) -> Iterator[str]:
    """Format rows for COPY. No value has a tab or a line break; only a tag can contain a backslash."""
    for row in rows:
        tag = "\\N" if row.tag is None else row.tag.replace("\\", "\\\\")
        zone, out = row.timezone or "\\N", "t" if row.opted_out else "f"
        yield f"{row.line}\t{row.phone}\t{row.operator_code}\t{tag}\t{zone}\t{out}\n"
