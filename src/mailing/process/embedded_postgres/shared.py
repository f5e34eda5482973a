"""The embedded server, shared by all processes that use one data directory.

Each process holds a shared lock on `postgres.users` while it uses the server, and the last one stops it. So
`mailing import` beside `mailing up` stops nothing, in whatever order they end. The kernel drops the lock of a killed
process, and the next process takes over the server that it left. Only one process at a time starts or stops it, under
`postgres.lock`.
"""

import asyncio
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from mailing.errors import EmbeddedError
from mailing.process.embedded_postgres.cluster import Cluster, socket_dir_of
from mailing.process.embedded_postgres.server import Server, url_at
from mailing.process.supervisor import undisturbed

CHECK_INTERVAL_S = 1.0


class Embedded:
    """A running server. Leaving its `with` block calls `stop`."""

    def __init__(self, server: Server, *, claim: int, taken_over: bool) -> None:
        self.data_dir = server.cluster.data_dir
        self.url = server.url
        self.binaries = server.cluster.binaries
        self.taken_over = taken_over
        self._server = server
        self._claim: int | None = claim

    @property
    def pid(self) -> int | None:
        postmaster = self._server.postmaster()
        return postmaster.pid if postmaster else None

    def answers(self) -> bool:
        return self._server.answers()

    def revive(self) -> None:
        """Restart the server if it died, under the same URL."""
        with _exclusive(self.data_dir):
            if self._claim is not None:
                self._server.bring_up()

    def stop(self) -> None:
        """Stop the server, unless another process uses it."""
        if self._claim is None:
            return
        claim, self._claim = self._claim, None
        with _exclusive(self.data_dir):
            try:
                if _is_last(claim):
                    self._server.shut_down()
            finally:
                os.close(claim)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def exists(data_dir: Path) -> bool:
    """Whether `start` would find a database there instead of creating one."""
    return (data_dir.expanduser() / "postgres").is_dir()


def url_of(data_dir: Path) -> str:
    """Return the URL under which the server will be found, or is. The directory must exist."""
    return url_at(socket_dir_of(data_dir.expanduser().resolve()))


def start(data_dir: Path) -> Embedded:
    """Start the server, or join a running one. Raise EmbeddedError.

    It takes 0.04 s, 0.6 s the first time, longer if PostgreSQL must recover from a crash.
    """
    data_dir = data_dir.expanduser().resolve()
    with _exclusive(data_dir):
        server = Server(Cluster(data_dir))
        claim = _locked(data_dir / "postgres.users", fcntl.LOCK_SH)
        try:
            return Embedded(server, taken_over=server.bring_up(), claim=claim)
        except BaseException:
            os.close(claim)
            raise


async def keep_running(embedded: Embedded, *, stop: asyncio.Event, on_event: Callable[[str], None]) -> None:
    """Restart the server whenever it dies, until `stop`. Call `Embedded.stop` after it has returned."""
    tell = undisturbed(on_event)
    while not stop.is_set():
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), CHECK_INTERVAL_S)
        if stop.is_set() or await asyncio.to_thread(embedded.answers):
            continue
        tell("PostgreSQL is gone; restarting it")
        try:
            await asyncio.to_thread(embedded.revive)
        except EmbeddedError as error:
            tell(f"{error}; will retry")
        else:
            tell(f"PostgreSQL is back, pid {embedded.pid}")


@contextmanager
def _exclusive(data_dir: Path) -> Iterator[None]:
    """Let one process at a time in. Turn an error of the operating system into an EmbeddedError with a remedy."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        lock = _locked(data_dir / "postgres.lock", fcntl.LOCK_EX)
        try:
            yield
        finally:
            os.close(lock)
    except OSError as error:
        raise EmbeddedError(
            f"the embedded PostgreSQL cannot use {error.filename or data_dir} ({error.strerror}); "
            "set MAILING_DATA_DIR to a directory that this user may write to, or MAILING_DATABASE_URL"
        ) from error


def _locked(path: Path, kind: int) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, kind)
    return descriptor


def _is_last(claim: int) -> bool:
    try:
        fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
