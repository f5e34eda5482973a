"""Find, start and stop the server of a cluster. One process at a time; `shared` takes the lock."""

import os
import re
import socket
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mailing.errors import EmbeddedError
from mailing.process.embedded_postgres.cluster import PORT, Cluster, complaint

START_TIMEOUT_S = 120  # after a crash PostgreSQL first replays up to 1 GB of write-ahead log
ANSWER_TIMEOUT_S = 5  # a postmaster listens some milliseconds after it wrote its pid file
LINGER_S = 10  # backends of a killed postmaster end with their query
TRANSIENT = ("is still in use", "already exists")  # shared memory, the pid file
MAX_LOG_BYTES = 10_000_000
SSL_REQUEST = bytes.fromhex("0000000804d2162f")  # the only protocol message without a user and a database


@dataclass(frozen=True, slots=True)
class Postmaster:
    pid: int
    ready: bool


def url_at(socket_dir: Path) -> str:
    """Return the connection URL. libpq, asyncpg and SQLAlchemy all read host and port from the query."""
    return f"postgresql://postgres@/postgres?host={socket_dir}&port={PORT}"


class Server:
    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    @property
    def url(self) -> str:
        return url_at(self.cluster.socket_dir)

    def postmaster(self) -> Postmaster | None:
        """Read the pid file. It outlives a kill -9, and after a power failure it may be empty (pid 0)."""
        try:
            lines = self._pid_file.read_text().splitlines()
        except FileNotFoundError:
            return None
        pid = re.match(r"-?(\d+)$", lines[0]) if lines else None  # negative: `postgres --single`
        return Postmaster(int(pid[1]) if pid else 0, ready="".join(lines[7:8]).strip() == "ready")

    def answers(self) -> bool:
        """Whether the server answers an SSL request.

        It does while it recovers or stops too, and when no connection is left. Connecting alone proves nothing: a
        postmaster that is being killed still listens for some milliseconds.
        """
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(ANSWER_TIMEOUT_S)
            try:
                connection.connect(str(self._socket))
                connection.sendall(SSL_REQUEST)
                return connection.recv(1) != b""
            except (FileNotFoundError, ConnectionError, TimeoutError):
                return False

    def bring_up(self) -> bool:
        """Start the server unless it runs. Return whether it was running already.

        What a killed process left behind may block the start for a while: a server half started, a backend in a query.
        """
        self.cluster.initialise()
        give_up = time.monotonic() + LINGER_S
        while not self._is_found():
            failure = self._launch()
            if failure is None:
                return False
            if not any(message in failure for message in TRANSIENT) or time.monotonic() > give_up:
                raise EmbeddedError(f"PostgreSQL does not start: {complaint(failure)}; see {self.cluster.log}")
            time.sleep(0.5)
        return True

    def shut_down(self) -> None:
        """Stop the server: fast, or immediately if its checkpoint takes too long. Committed data is in the log."""
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
        return self.cluster.socket_dir / f".s.PGSQL.{PORT}"

    def _is_found(self) -> bool:
        """Whether a server runs, after waiting for one that is starting, recovering or stopping.

        A server that answers counts, whatever the pid file says: it may run in another container with its own pids.
        """
        give_up = time.monotonic() + START_TIMEOUT_S
        silent_until = time.monotonic() + ANSWER_TIMEOUT_S
        while True:
            found = self.postmaster()
            if self.answers():
                if found and found.ready:
                    return True
                silent_until = time.monotonic() + ANSWER_TIMEOUT_S
            elif not found:
                return False
            elif not _is_live_postgres(found.pid):
                self._remove_stale_files()
                return False
            if time.monotonic() > min(silent_until, give_up):
                holder = f"process {found.pid}" if found else "a process"
                raise EmbeddedError(f"PostgreSQL, {holder}, holds {self.cluster.directory} and is not ready; end it")
            time.sleep(0.05)

    def _launch(self) -> str | None:
        """Start the server and wait until it is ready. Return its output if it is not, mostly because it ended.

        pg_ctl would take 0.1 s more: it starts two other programs, and looks ten times a second.
        """
        if self.cluster.log_bytes() > MAX_LOG_BYTES:
            self.cluster.log.replace(self.cluster.log.with_name(f"{self.cluster.log.name}.1"))
        begin = self.cluster.log_bytes()
        here = {"unix_socket_directories": self.cluster.create_socket_dir(), "listen_addresses": "", "port": PORT}
        server = self.cluster.spawn("postgres", *(f"--{name}={value}" for name, value in here.items()))
        give_up = time.monotonic() + START_TIMEOUT_S
        while server.poll() is None and time.monotonic() < give_up:
            if self.postmaster() == Postmaster(server.pid, ready=True):
                server.returncode = 0  # it may outlive this process, so nobody waits for its end
                return None
            time.sleep(0.01)
        return self.cluster.output_since(begin)

    def _remove_stale_files(self) -> None:
        """Remove the pid file and the socket's lock of a dead server.

        PostgreSQL itself trusts a pid file while any process of its user has that number, as in a restarted container.
        Backends left by a dead postmaster still block the next one, by their shared memory.
        """
        self._pid_file.unlink(missing_ok=True)
        self._socket.with_name(f"{self._socket.name}.lock").unlink(missing_ok=True)


def _is_live_postgres(pid: int) -> bool:
    """Whether the process is PostgreSQL, not a zombie or another program that got the number later."""
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
    listed = subprocess.run(["ps", "-o", "stat=,comm=", "-p", str(pid)], capture_output=True, text=True, check=False)  # noqa: S603, S607 - the system's ps
    return listed.stdout.rstrip().endswith("postgres") and not listed.stdout.startswith("Z")
