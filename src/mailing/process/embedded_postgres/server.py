"""The server on a cluster: found, started, stopped. One process at a time: `shared` sees to that."""

import os
import re
import shlex
import socket
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mailing.errors import EmbeddedError
from mailing.process.embedded_postgres.cluster import PORT, Cluster, complaint

START_S = 120  # after a crash PostgreSQL replays up to 1 GB of its log first
SILENCE_S = 5  # a postmaster listens some milliseconds after it wrote its pid file
LINGER_S = 10  # backends of a killed postmaster end when their query does
PASSING = ("is still in use", "already exists")  # of shared memory and of the pid file
LOG_BYTES = 10_000_000
SSL_REQUEST = bytes.fromhex("0000000804d2162f")  # the one message of the protocol that needs no user and no database


@dataclass(frozen=True, slots=True)
class Postmaster:
    pid: int
    ready: bool


class Server:
    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    @property
    def url(self) -> str:
        """libpq, asyncpg and SQLAlchemy all read host and port from the query."""
        return f"postgresql://postgres@/postgres?host={self.cluster.socket_dir()}&port={PORT}"

    def postmaster(self) -> Postmaster | None:
        """As its pid file has it, which outlives a kill -9; after a power failure it may be empty (pid 0)."""
        try:
            lines = self._pid_file.read_text().splitlines()
        except FileNotFoundError:
            return None
        pid = re.match(r"-?(\d+)$", lines[0]) if lines else None  # negative: `postgres --single`
        return Postmaster(int(pid[1]) if pid else 0, ready="".join(lines[7:8]).strip() == "ready")

    def answers(self) -> bool:
        """Connecting alone proves nothing: a postmaster being killed still listens for some milliseconds.

        It answers this request while it recovers or stops too, and when no connection is left.
        """
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(SILENCE_S)
            try:
                connection.connect(str(self._socket))
                connection.sendall(SSL_REQUEST)
                return connection.recv(1) != b""
            except (FileNotFoundError, ConnectionError, TimeoutError):
                return False

    def bring_up(self) -> bool:
        """True: one was running already.

        What a killed process left may stand in the way for a while: a server half started, a backend at its query.
        """
        self.cluster.initialise()
        give_up = time.monotonic() + LINGER_S
        while not self._is_found():
            failure = self._launch()
            if failure is None:
                return False
            if not any(passing in failure for passing in PASSING) or time.monotonic() > give_up:
                raise EmbeddedError(f"PostgreSQL does not start: {complaint(failure)}; see {self.cluster.log}")
            time.sleep(0.5)
        return True

    def shut_down(self) -> None:
        """Fast; if its checkpoint takes too long, at once: what was committed is in PostgreSQL's log."""
        for mode, seconds in (("fast", 10), ("immediate", 20)):
            if self.answers():
                self.cluster.run("pg_ctl", "stop", "-w", "-m", mode, "-t", str(seconds))
        if self.answers():
            raise EmbeddedError(f"PostgreSQL does not stop; see {self.cluster.log}")
        if self._socket.parent != self.cluster.directory:
            with suppress(OSError):
                self._socket.parent.rmdir()

    @property
    def _pid_file(self) -> Path:
        return self.cluster.directory / "postmaster.pid"

    @property
    def _socket(self) -> Path:
        return self.cluster.socket_dir() / f".s.PGSQL.{PORT}"

    def _is_found(self) -> bool:
        """Waits for one that is just starting, recovering or stopping.

        What answers counts, whatever the pid file says: it may be in another container, with its own numbers.
        """
        give_up = time.monotonic() + START_S
        silent_until = time.monotonic() + SILENCE_S
        while True:
            found = self.postmaster()
            if self.answers():
                if found and found.ready:
                    return True
                silent_until = time.monotonic() + SILENCE_S
            elif not found:
                return False
            elif not _is_live_postgres(found.pid):
                self._forget_the_dead()
                return False
            if time.monotonic() > min(silent_until, give_up):
                holder = f"process {found.pid}" if found else "a process"
                raise EmbeddedError(f"PostgreSQL, {holder}, holds {self.cluster.directory} and is not ready: end it")
            time.sleep(0.05)

    def _launch(self) -> str | None:
        log = self.cluster.log
        if log.exists() and log.stat().st_size > LOG_BYTES:
            log.replace(log.with_name(f"{log.name}.1"))
        here = {"unix_socket_directories": self.cluster.made_socket_dir(), "listen_addresses": "", "port": PORT}
        options = shlex.join(f"--{name}={value}" for name, value in here.items())
        return self.cluster.run("pg_ctl", "start", "-w", "-t", str(START_S), "-o", options)

    def _forget_the_dead(self) -> None:
        """PostgreSQL itself believes in a pid file as long as any process of its user has that number, as in a
        restarted container. Backends that a dead postmaster left still keep the next out, by their shared memory.
        """
        self._pid_file.unlink(missing_ok=True)
        self._socket.with_name(f"{self._socket.name}.lock").unlink(missing_ok=True)


def _is_live_postgres(pid: int) -> bool:
    """Neither a zombie nor somebody who got the number later."""
    if pid == 0:
        return False
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)  # process 1 of a container inherits the server
    if Path("/proc/self/stat").exists():
        try:
            name, _, fields = Path(f"/proc/{pid}/stat").read_text().partition("(")[2].rpartition(")")
        except (FileNotFoundError, ProcessLookupError):
            return False
        return name == "postgres" and fields.split()[0] != "Z"
    listed = subprocess.run(["ps", "-o", "stat=,comm=", "-p", str(pid)], capture_output=True, text=True, check=False)  # noqa: S603, S607
    return listed.stdout.rstrip().endswith("postgres") and not listed.stdout.startswith("Z")
