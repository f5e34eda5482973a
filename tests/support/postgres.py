"""The PostgreSQL of tests, fault runs and benchmarks.

Tests take one from the environment, a container, `initdb` on PATH or the embedded one.
"""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import asyncpg

from mailing.process.ports import free_port

URL = "MAILING_TEST_DATABASE_URL"  # names a PostgreSQL to use, instead of one that the tests start
MEMORY, ROOM = Path("/dev/shm"), 4 * 1024**3  # noqa: S108 - Linux's own; a container's has 64 MB as a rule
WITHOUT_TLS = "sslmode=disable"  # asyncpg would make a TLS context for each connection, in 1 ms
TUNING = ("fsync=off", "full_page_writes=off", "synchronous_commit=on", "max_connections=300", "shared_buffers=128MB")
# With it, VACUUM counts no row where an earlier test left none, and PostgreSQL plans for that: 40 s for 3,000 rows.
OF_TESTS = (*TUNING, "autovacuum=off")


@dataclass(frozen=True)
class PostgresServer:
    """`url` names a database in which databases can be created. It is known before the server was started."""

    kind: str
    url: str
    start: Callable[[], object]
    stop: Callable[[], object]


def postgres_server(url: str | None) -> PostgresServer:
    if url:
        return PostgresServer("from the environment", url, start=_nothing, stop=_nothing)
    return _container() or _own_server(_new_cluster(memory()))


def _nothing() -> None:
    pass


def memory() -> Path | None:
    """Return a directory in memory, if it has room. To copy a database is 400 files: 0.3 s on a disk, 0.02 s there."""
    return MEMORY if os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free >= ROOM else None


@dataclass(frozen=True)
class Cluster:
    """A PostgreSQL of our own, on TCP, because some tests put a proxy before it. Its address outlives restarts.

    `initialise` creates its files. `run` runs a program of PostgreSQL as the cluster's owner.
    """

    kind: str
    home: Path
    data: Path
    sockets: Path
    port: int
    run: Callable[..., object]
    initialise: Callable[[], object]

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def start(self, tuning: Sequence[str] = TUNING) -> None:
        own = f"-p {self.port} -k {self.sockets} -c listen_addresses=127.0.0.1"
        options = " ".join([own, *(f"-c {option}" for option in tuning)])
        self.run("pg_ctl", "-D", str(self.data), "-w", "-l", str(self.data / "log"), "-o", options, "start")

    def stop(self, mode: str = "immediate") -> None:
        self.run("pg_ctl", "-D", str(self.data), "-w", "-m", mode, "stop")

    def freeze(self) -> None:
        """Stop all its processes, as on a machine that hangs: its kernel accepts connections and nothing answers."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    @property
    def postmaster(self) -> int:
        """Its process id. Raise FileNotFoundError if it does not run."""
        return int((self.data / "postmaster.pid").read_text().split()[0])

    def _signal(self, number: signal.Signals) -> None:
        """Signal the postmaster first, so that it starts no backend meanwhile."""
        for pid in (postmaster := self.postmaster, *children_of(postmaster)):
            with suppress(ProcessLookupError):
                os.kill(pid, number)


def children_of(pid: int) -> list[int]:
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True)  # noqa: S607 - the system's ps
    return [int(child) for child, parent in map(str.split, listed.stdout.splitlines()) if int(parent) == pid]


@contextmanager
def running(cluster: Cluster, tuning: Sequence[str] = TUNING) -> Iterator[Cluster]:
    """Run a cluster until the block ends, then remove its files, whatever the block left of it."""
    try:
        cluster.start(tuning)
        yield cluster
    finally:
        with suppress(subprocess.CalledProcessError, RuntimeError):  # the block may have stopped it
            cluster.stop()
        shutil.rmtree(cluster.home, ignore_errors=True)


async def create_database(server_url: str, name: str) -> str:
    """Create a database with the schema. Return its URL."""
    admin = await asyncpg.connect(server_url)
    await admin.execute(f"CREATE DATABASE {name}")
    await admin.close()
    url = url_of(server_url, name)
    await apply_schema(url)
    return url


async def apply_schema(url: str) -> None:
    from mailing.database.engine import open_engine  # noqa: PLC0415 - workers of a parallel run start meanwhile
    from mailing.database.migrations import migrate  # noqa: PLC0415 - as above

    async with open_engine(url, application="tests") as engine:
        await migrate(engine)


def url_of(server_url: str, database: str) -> str:
    base, _, query = server_url.partition("?")
    return base.rpartition("/")[0] + f"/{database}" + (f"?{query}" if query else "")


def own_cluster(place: Path | None = None) -> Cluster:
    """Made, not started; in a directory of its own below `place`, or where temporary files are."""
    cluster = _new_cluster(place)
    cluster.initialise()
    return cluster


def _new_cluster(place: Path | None) -> Cluster:
    return _initdb(place) or _embedded(place)


def _own_server(cluster: Cluster) -> PostgresServer:
    own = ExitStack()
    own.callback(shutil.rmtree, cluster.home, ignore_errors=True)

    def start() -> None:
        cluster.initialise()
        own.enter_context(running(cluster, OF_TESTS))

    return PostgresServer(cluster.kind, f"{cluster.url}?{WITHOUT_TLS}", start, own.close)


def _container() -> PostgresServer | None:
    """Where an engine listens; asking docker-py when none does would leak its socket."""
    if not os.environ.get("DOCKER_HOST") and not Path("/var/run/docker.sock").exists():
        return None
    import docker  # noqa: PLC0415 - only where an engine may answer
    from docker.errors import DockerException  # noqa: PLC0415 - as above
    from requests.exceptions import RequestException  # noqa: PLC0415 - as above
    from testcontainers.community.postgres import PostgresContainer  # noqa: PLC0415 - as above

    try:
        with closing(docker.from_env(timeout=3)) as engine:
            engine.ping()
    except (DockerException, RequestException):
        return None
    container = PostgresContainer("postgres:17").with_command(["postgres", *(f"-c{option}" for option in OF_TESTS)])
    container.with_env("LANG", "C.UTF-8").start()
    return PostgresServer("testcontainers", container.get_connection_url(driver=None), _nothing, container.stop)


def _initdb(place: Path | None) -> Cluster | None:
    """As root the server runs as the system user `postgres`, because PostgreSQL refuses to run as root."""
    if not shutil.which("initdb") or not shutil.which("pg_ctl"):
        return None
    user = "postgres" if os.geteuid() == 0 else None
    home = Path(tempfile.mkdtemp(prefix="mailing-tests-", dir=place))
    if user:
        try:
            shutil.chown(home, user)
        except LookupError:
            return None

    def run(*command: str) -> None:
        subprocess.run(command, check=True, capture_output=True, user=user, cwd=home)  # noqa: S603 - our own arguments

    data = home / "data"
    options = ("-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale", "C", "--no-sync")
    initialise = partial(run, "initdb", "-D", str(data), *options)
    return Cluster("initdb on PATH", home, data, home, free_port(), run, initialise)


def _embedded(place: Path | None) -> Cluster:
    """With the binaries of the embedded one."""
    from mailing.process.embedded_postgres.cluster import Cluster as EmbeddedCluster  # noqa: PLC0415 - the last resort

    home = Path(tempfile.mkdtemp(prefix="mailing-tests-", dir=place))
    home.chmod(0o711)
    embedded = EmbeddedCluster(home)

    def initialise() -> None:
        embedded.initialise()
        (embedded.directory / "pg_hba.conf").write_text("host all all 127.0.0.1/32 trust\n")
        embedded.create_socket_dir()

    def run(*command: str) -> None:
        if failure := embedded.run(*command):
            raise RuntimeError(failure)

    return Cluster("embedded", home, embedded.directory, embedded.socket_dir, free_port(), run, initialise)
