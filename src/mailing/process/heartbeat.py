"""A worker's sign of life for whoever watches it from outside: a file that its watchdog writes every second.

    python -m mailing.process.heartbeat

exits 0 if every worker of this user on this host makes progress, 1 if one does not or none runs.

`mailing worker --check` is the same, and takes the second of processor time that loading all of Mailing takes; this
loads nothing else. The file holds the machine's monotonic clock, which all its processes share.
"""

import logging
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

SILENT_S: Final = 60.0  # longer than a worker takes to end itself: only one that can't even do that gets here


@contextmanager
def beating() -> Iterator[Callable[[], None]]:
    """Yields what to call while there is progress."""
    path = Path(tempfile.gettempdir(), f"mailing-worker-{os.getpid()}.pulse")
    try:
        file = _made(path)
    except OSError as error:  # a worker without a place for it works all the same
        logging.getLogger(__name__).warning("no sign of life for `mailing worker --check`: %s", error)
        yield lambda: None
        return
    try:
        yield lambda: _beat(file)
    finally:
        path.unlink(missing_ok=True)
        os.close(file)


def check() -> str | None:
    """What is wrong, in one sentence; None: nothing."""
    pulses = [path for path in Path(tempfile.gettempdir()).glob("mailing-worker-*.pulse") if _is_ours(path)]
    if not pulses:
        return "no worker runs here, or it can't write to its directory for temporary files"
    silent_s = max(map(_silent_s, pulses))
    return f"a worker has made no progress for {silent_s:.0f} s" if silent_s > SILENT_S else None


def main() -> int:
    wrong = check()
    if wrong:
        print(f"mailing: {wrong}", file=sys.stderr)  # noqa: T201 - it is a command
    return 1 if wrong else 0


def _made(path: Path) -> int:
    """Anew: in a container that was started again the last worker had the same number."""
    path.unlink(missing_ok=True)
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    _beat(file)
    return file


def _beat(file: int) -> None:
    os.pwrite(file, f"{time.monotonic():20.3f}\n".encode(), 0)


def _is_ours(path: Path) -> bool:
    """And its worker is still there: a killed one leaves its file behind."""
    number = re.search(r"\d+", path.name)
    with suppress(OSError):
        os.kill(int(number[0]) if number else 0, 0)
        return path.stat().st_uid == os.geteuid()
    return False


def _silent_s(path: Path) -> float:
    return time.monotonic() - float(path.read_text(encoding="ascii"))


if __name__ == "__main__":
    sys.exit(main())
