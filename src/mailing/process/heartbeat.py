"""A worker's heartbeat: a file that its watchdog writes every second, for health checks from outside the process.

    python -m mailing.process.heartbeat

exits 0 if every worker of this user on this host makes progress, 1 if one does not or none runs.

`mailing worker --health` does the same, at the cost of a second of processor time for loading all of Mailing. This
module loads nothing else. The file contains the host's monotonic clock, which all its processes share.
"""

import fcntl
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final, TextIO

MAX_SILENCE_S: Final = 60.0  # longer than a stuck worker takes to end itself: only one that cannot gets here


@contextmanager
def beating() -> Iterator[Callable[[], None]]:
    """Yield the function to call while the worker makes progress. A beat that cannot be written is skipped."""
    path = Path(tempfile.gettempdir(), f"mailing-worker-{os.getpid()}.heartbeat")
    try:
        file = _created(path)
    except OSError as error:  # the worker works without it
        logging.getLogger(__name__).warning(
            "heartbeat file not created, `mailing worker --health` will fail: %s", error
        )
        yield lambda: None
        return
    try:
        yield partial(_try_write, file)
    finally:
        path.unlink(missing_ok=True)
        os.close(file)


def check() -> str | None:
    """Return what is wrong in one sentence, or None."""
    silence_s = max(_silences_s(), default=None)
    if silence_s is None:
        return "no worker runs here, or it cannot write to its temporary directory; see its log"
    return f"a worker has made no progress for {silence_s:.0f} s" if silence_s > MAX_SILENCE_S else None


def main() -> int:
    wrong = check()
    if wrong:
        print(f"mailing: {wrong}", file=sys.stderr)  # noqa: T201 - this is a command
    return 1 if wrong else 0


def _created(path: Path) -> int:
    """Replace any older file: in a restarted container, the last worker had the same process id."""
    path.unlink(missing_ok=True)
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    fcntl.flock(file, fcntl.LOCK_EX)
    _write(file)
    return file


def _write(file: int) -> None:
    os.pwrite(file, f"{time.monotonic():20.3f}\n".encode(), 0)


def _try_write(file: int) -> None:
    """Write, but not to a full or failing disk: an error would end the watchdog, which calls this."""
    with suppress(OSError):
        _write(file)


def _is_locked(file: TextIO) -> bool:
    """Whether the file's worker still runs: a killed one leaves its file behind, and any process may get its number."""
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def _silences_s() -> Iterator[float]:
    for path in Path(tempfile.gettempdir()).glob("mailing-worker-*.heartbeat"):
        with suppress(FileNotFoundError, ValueError):  # its worker is just ending, or beginning
            if path.stat().st_uid != os.geteuid():
                continue
            with path.open(encoding="ascii") as file:
                if _is_locked(file):
                    yield time.monotonic() - float(file.read())


if __name__ == "__main__":
    sys.exit(main())
