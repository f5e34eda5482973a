"""A PostgreSQL cluster that fails over by itself: three Patroni nodes, etcd and HAProxy, all on loopback.

apt-get install patroni etcd-server haproxy
"""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import asyncpg
import httpx

from chaos.runner.postgres import DATABASE, OBSERVER, Database
from mailing.process.ports import free_port
from support.postgres import apply_schema, children_of
from support.processes import until

PROGRAMS: Final = ("patroni", "etcd", "haproxy")
NODES: Final = 3
START_S: Final = 180
PARAMETERS: Final = {
    "wal_level": "replica",
    "hot_standby": "on",
    "wal_log_hints": "on",
    "max_connections": 100,
    "shared_buffers": "64MB",
    "fsync": "off",  # processes are killed, the machine lives on
}


@dataclass
class Node:
    """`stopped`: killed for good, or frozen."""

    name: str
    port: int
    rest: int
    directory: Path
    patroni: subprocess.Popen[bytes] | None = None
    stopped: bool = False

    @property
    def data(self) -> Path:
        return self.directory / "data"

    def postmaster(self) -> int:
        return int((self.data / "postmaster.pid").read_text().split()[0])

    def processes(self) -> list[int]:
        """Patroni first, so that it restarts nothing, then the postmaster, then its children."""
        found = [self.patroni.pid] if self.patroni else []
        with suppress(OSError):
            found.append(self.postmaster())
        return [*found, *(child for pid in found for child in children_of(pid))]

    def signal(self, number: signal.Signals) -> None:
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill_patroni(self) -> None:
        if self.patroni:
            self.patroni.kill()
            self.patroni.wait()
            self.patroni = None

    def receivers(self) -> list[int]:
        return [pid for pid in children_of(self.postmaster()) if b"walreceiver" in _command(pid)]


@dataclass
class PatroniCluster(Database):
    """`url` goes through HAProxy, which leads to the primary; `hosts_url` names all nodes."""

    home: Path
    synchronous: bool
    proxy_port: int = field(default_factory=free_port)
    etcd_port: int = field(default_factory=free_port)
    nodes: list[Node] = field(default_factory=list)
    children: list[subprocess.Popen[bytes]] = field(default_factory=list)
    thawing: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        self.url = f"postgresql://postgres@127.0.0.1:{self.proxy_port}/{DATABASE}"
        self.nodes = [
            Node(f"node{number}", free_port(), free_port(), self.home / f"node{number}") for number in range(NODES)
        ]

    @property
    def hosts_url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)
        return f"postgresql://postgres@{hosts}/{DATABASE}"

    def start(self) -> None:
        client, peer = f"http://127.0.0.1:{self.etcd_port}", f"http://127.0.0.1:{free_port()}"
        self._spawn(
            "etcd", "etcd", "--name", "one", "--data-dir", str(self.home / "etcd"), "--unsafe-no-fsync",
            "--listen-client-urls", client, "--advertise-client-urls", client, "--listen-peer-urls", peer,
            "--initial-advertise-peer-urls", peer, "--initial-cluster", f"one={peer}",
        )  # fmt: skip
        for node in self.nodes:
            node.directory.mkdir()
            (node.directory / "patroni.json").write_text(json.dumps(self._configuration(node)))
            shutil.chown(node.directory, "postgres", "postgres")
            self.boot(node)
        (self.home / "haproxy.cfg").write_text(self._haproxy())
        self._spawn("haproxy", "haproxy", "-db", "-f", str(self.home / "haproxy.cfg"))

    def stop(self, mode: str = "immediate") -> None:  # noqa: ARG002 - as the single server's
        for node in self.nodes:
            node.signal(signal.SIGKILL)
        for child in self.children:
            child.kill()
            child.wait()

    def boot(self, node: Node) -> None:
        node.patroni = self._spawn(node.name, "patroni", str(node.directory / "patroni.json"), user="postgres")

    async def create(self) -> None:
        await self.until(self._is_whole)
        admin = await asyncpg.connect(self.hosts_url.replace(f"/{DATABASE}", "/postgres"), **READ_WRITE)
        await admin.execute(f"CREATE DATABASE {DATABASE}")
        await admin.close()
        await apply_schema(self.reachable_url())  # the proxy may not know the primary yet
        await self.until(self._is_whole)

    async def until(self, holds: Callable[[], Any]) -> None:
        await until(holds, seconds=START_S, every_s=0.2)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.Connection]:
        connection = await asyncpg.connect(
            self.reachable_url(), server_settings={"application_name": OBSERVER}, **READ_WRITE
        )
        try:
            yield connection
        finally:
            connection.terminate()

    async def leader(self) -> Node:
        for node in self.nodes:
            if (await self._state(node)).get("role") in {"master", "primary"}:
                return node
        raise AssertionError("there is no leader")

    async def switch_over(self) -> None:
        leader = await self.leader()
        async with httpx.AsyncClient(trust_env=False, timeout=60) as http:
            answer = await http.post(f"http://127.0.0.1:{leader.rest}/switchover", json={"leader": leader.name})
            assert answer.status_code == 200, answer.text

    def reachable_url(self) -> str:
        """Without nodes that are stopped: asyncpg has one limit for all hosts."""
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes if not node.stopped)
        return f"postgresql://postgres@{hosts}/{DATABASE}"

    async def _is_whole(self) -> bool:
        """One leader, two that stream, and one of these synchronous where that is wanted."""
        states = [await self._state(node) for node in self.nodes]
        leaders = [state for state in states if state.get("role") in {"master", "primary"}]
        followers = [each for state in leaders for each in state.get("replication", ())]
        synchronous = [each for each in followers if each.get("sync_state") == "sync"]
        return len(leaders) == 1 and len(followers) == NODES - 1 and bool(synchronous) == self.synchronous

    async def _state(self, node: Node) -> dict[str, Any]:
        try:
            async with httpx.AsyncClient(trust_env=False, timeout=2) as http:
                state: dict[str, Any] = (await http.get(f"http://127.0.0.1:{node.rest}/patroni")).json()
                return state
        except (httpx.HTTPError, ValueError):
            return {}

    def _spawn(self, name: str, *command: str, user: str | None = None) -> subprocess.Popen[bytes]:
        with (self.home / f"{name}.log").open("ab") as log:
            child = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.home, user=user, start_new_session=True)  # noqa: S603 - ours
        self.children.append(child)
        return child

    def _configuration(self, node: Node) -> dict[str, Any]:
        binaries = max(Path("/usr/lib/postgresql").glob("*/bin"))
        access = ["local all all trust", "host all all 127.0.0.1/32 trust", "host replication all 127.0.0.1/32 trust"]
        dcs = {
            "ttl": 30,
            "loop_wait": 10,
            "retry_timeout": 10,
            "maximum_lag_on_failover": 1_000_000_000,
            "synchronous_mode": self.synchronous,
            "postgresql": {"use_pg_rewind": True, "use_slots": True, "parameters": PARAMETERS},
        }
        return {
            "scope": "mailing",
            "name": node.name,
            "restapi": {"listen": f"127.0.0.1:{node.rest}", "connect_address": f"127.0.0.1:{node.rest}"},
            "etcd3": {"hosts": [f"127.0.0.1:{self.etcd_port}"]},
            "bootstrap": {
                "dcs": dcs,
                "initdb": [{"encoding": "UTF8"}, {"locale": "C"}, "data-checksums"],
                "pg_hba": access,
            },
            "postgresql": {
                "listen": f"127.0.0.1:{node.port}",
                "connect_address": f"127.0.0.1:{node.port}",
                "data_dir": str(node.data),
                "bin_dir": str(binaries),
                "pgpass": str(node.directory / "pgpass"),
                "pg_hba": access,
                "parameters": {"unix_socket_directories": str(node.directory)},
                "authentication": {
                    "superuser": {"username": "postgres", "password": "postgres"},
                    "replication": {"username": "replicator", "password": "replicator"},
                },
            },
        }

    def _haproxy(self) -> str:
        servers = "\n".join(
            f"    server {node.name} 127.0.0.1:{node.port} maxconn 100 check port {node.rest}" for node in self.nodes
        )
        return f"""
defaults
    mode tcp
    timeout connect 4s
    timeout client 30m
    timeout server 30m
    timeout check 5s
listen primary
    bind 127.0.0.1:{self.proxy_port}
    option httpchk OPTIONS /primary
    http-check expect status 200
    default-server inter 1s fall 2 rise 1 on-marked-down shutdown-sessions
{servers}
"""


READ_WRITE: Final[dict[str, Any]] = {"target_session_attrs": "read-write", "timeout": 5}


def missing() -> list[str]:
    """Programs that are not installed."""
    return [name for name in PROGRAMS if not shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")]


@asynccontextmanager
async def patroni_cluster(*, synchronous: bool) -> AsyncIterator[PatroniCluster]:
    home = Path(tempfile.mkdtemp(prefix="mailing-patroni-"))
    home.chmod(0o755)
    cluster = PatroniCluster(home, synchronous)
    try:
        await asyncio.to_thread(cluster.start)
        await cluster.create()
        yield cluster
    finally:
        await asyncio.to_thread(cluster.stop)
        shutil.rmtree(home, ignore_errors=True)


def _command(pid: int) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""
