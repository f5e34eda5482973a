"""Finds a PostgreSQL for the tests: one in the environment, a container, `initdb` on PATH, the embedded one."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

TUNING = ("fsync=off", "full_page_writes=off", "synchronous_commit=on", "max_connections=200", "shared_buffers=128MB")


@dataclass(frozen=True)
class PostgresServer:
    """`url` names a database in which databases can be created."""

    kind: str
    url: str
    stop: Callable[[], object]


def start_postgres(url: str | None) -> PostgresServer:
    if url:
        return PostgresServer("from the environment", url, lambda: None)
    return _container() or _initdb() or _embedded()


def _container() -> PostgresServer | None:
    """Where an engine listens; asking docker-py when none does would leak its socket."""
    if not os.environ.get("DOCKER_HOST") and not Path("/var/run/docker.sock").exists():
        return None
    import docker  # noqa: PLC0415 - only where an engine may answer
    from docker.errors import DockerException  # noqa: PLC0415
    from requests.exceptions import RequestException  # noqa: PLC0415
    from testcontainers.community.postgres import PostgresContainer  # noqa: PLC0415

    try:
        with closing(docker.from_env(timeout=3)) as engine:
            engine.ping()
    except (DockerException, RequestException):
        return None
    container = PostgresContainer("postgres:17").with_command(["postgres", *(f"-c{option}" for option in TUNING)])
    container.with_env("LANG", "C.UTF-8").start()
    return PostgresServer("testcontainers", container.get_connection_url(driver=None), container.stop)


def _container_engine_answers() -> bool:
    import docker  # noqa: PLC0415 - only where an engine may answer
    from docker.errors import DockerException  # noqa: PLC0415

    try:
        docker.from_env(timeout=3).ping()
    except DockerException:
        return False
    return True


def _initdb() -> PostgresServer | None:
    """As root the server runs as the system user `postgres`, because PostgreSQL refuses to run as root."""
    if not shutil.which("initdb") or not shutil.which("pg_ctl"):
        return None
    user = "postgres" if os.geteuid() == 0 else None
    home = Path(tempfile.mkdtemp(prefix="mailing-tests-"))
    if user:
        try:
            shutil.chown(home, user)
        except LookupError:
            return None
    data, port = home / "data", _free_port()

    def run(*command: str) -> None:
        subprocess.run(command, check=True, capture_output=True, user=user, cwd=home)  # noqa: S603 - our own arguments

    run("initdb", "-D", str(data), "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale", "C", "--no-sync")
    options = " ".join(f"-c {option}" for option in TUNING)
    run(
        *("pg_ctl", "-D", str(data), "-w", "-l", str(home / "log")),
        *("-o", f"-p {port} -k {home} -c listen_addresses=127.0.0.1 {options}", "start"),
    )

    def stop() -> None:
        run("pg_ctl", "-D", str(data), "-m", "immediate", "stop")
        shutil.rmtree(home, ignore_errors=True)

    return PostgresServer("initdb on PATH", f"postgresql://postgres@127.0.0.1:{port}/postgres", stop)


def _embedded() -> PostgresServer:
    """The binaries of the embedded one, on TCP as the others are: some tests put a proxy before it."""
    from mailing.embedded.cluster import Cluster  # noqa: PLC0415 - the last resort

    home, port = Path(tempfile.mkdtemp(prefix="mailing-tests-")), _free_port()
    home.chmod(0o711)
    cluster = Cluster(home)
    cluster.initialise()
    with (cluster.directory / "pg_hba.conf").open("w") as access:
        access.write("host all all 127.0.0.1/32 trust\n")
    tuning = " ".join(f"-c {option}" for option in TUNING)
    options = f"-p {port} -k {cluster.made_socket_dir()} -c listen_addresses=127.0.0.1 {tuning}"
    if failure := cluster.run("pg_ctl", "start", "-w", "-o", options):
        raise RuntimeError(failure)

    def stop() -> None:
        cluster.run("pg_ctl", "stop", "-m", "immediate")
        shutil.rmtree(home, ignore_errors=True)

    return PostgresServer("embedded", f"postgresql://postgres@127.0.0.1:{port}/postgres", stop)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
