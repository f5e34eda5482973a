"""How fast messages go out: real `mailing worker` processes against a gateway that costs next to nothing.

    PYTHONPATH=tests python bench/dispatch.py [--messages 20000] [--rounds 5] [--processes 1 2 4] [--latency 0.05]

Without `--latency` the gateway is nginx (`return 200`), and each round also runs aiohttp alone, without a database,
over as many connections: the limit. With it the gateway answers that many seconds later, from its own process. Wall
time is from the first to the last call in the gateway's log, which must hold every message exactly once. CPU
seconds are of the workers, of PostgreSQL and of the gateway, from before the first claim to the mailing's end.
"""

import argparse
import asyncio
import contextlib
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import asyncpg
import msgspec
import uvloop

from mailing import db, queue
from mailing.site import free_port
from server import Cluster, own_cluster

CONNECTIONS = 64
TUNING = ("shared_buffers=512MB", "max_wal_size=4GB", "max_connections=200", "wal_compression=on")
ANSWER = '{"code":0,"message":"OK"}'
ORDER = {"phone": 79161234567, "text": "Autumn sale: 20 % off until Sunday"}
TICKS = os.sysconf("SC_CLK_TCK")


class Figures(msgspec.Struct):
    """Of one run. CPU is in milliseconds for each message."""

    per_second: float
    sender_cpu: float
    database_cpu: float
    gateway_cpu: float


class Lost(Exception):
    """The gateway's log does not hold each message exactly once."""


async def main(options: argparse.Namespace) -> None:
    cluster = own_cluster()
    cluster.start(TUNING)
    try:
        await _migrate(cluster.url)
        await _add_clients(cluster.url, options.messages)
        with tempfile.TemporaryDirectory() as home, _gateway(Path(home), options.latency) as gateway:
            for processes in options.processes:
                await _compare(cluster, gateway, processes, options)
    finally:
        cluster.stop("fast")
        cluster.remove()


async def _compare(cluster: Cluster, gateway: "Gateway", processes: int, options: argparse.Namespace) -> None:
    limit = 1 / options.latency * CONNECTIONS * processes if options.latency else 0.0
    bare, sent = [], []
    for _ in range(options.rounds):
        if not options.latency:
            bare.append(await _bare(gateway, options.messages))
        sent.append(await _send(cluster, gateway, processes, options.messages))
    if bare:
        _print("aiohttp alone", bare)
        limit = statistics.median(run.per_second for run in bare)
    _print(f"{processes} worker process{'es' if processes > 1 else ''}", sent)
    print(f"{'':22}{statistics.median(run.per_second for run in sent) / limit:.2f} of {limit:,.0f}/s", flush=True)


def _print(what: str, runs: list[Figures]) -> None:
    per_second = sorted(run.per_second for run in runs)
    cpu = [statistics.median(getattr(run, name) for run in runs) for name in Figures.__struct_fields__[1:]]
    print(
        f"{what:22}{statistics.median(per_second):7,.0f}/s ({per_second[0]:,.0f} … {per_second[-1]:,.0f}), CPU s per"
        f" 1,000: sender {cpu[0]:.3f}, database {cpu[1]:.3f}, gateway {cpu[2]:.3f}",
        flush=True,
    )


async def _migrate(url: str) -> None:
    engine = db.create_engine(url, application="bench", pool_size=1)
    await db.migrate(engine)
    await engine.dispose()


async def _add_clients(url: str, count: int) -> None:
    database = await asyncpg.connect(url)
    await database.execute(
        """INSERT INTO client (phone, operator_code, timezone)
        SELECT '79' || lpad(n::text, 9, '0'), '900', 'Europe/Moscow' FROM generate_series(1, $1) n""",
        count,
    )
    await database.close()


async def _send(cluster: Cluster, gateway: "Gateway", processes: int, messages: int) -> Figures:
    """A planned mailing is launched while the workers stand ready."""
    async with _workers(cluster.url, gateway.url, processes) as pids:
        mailing_id = await _planned(cluster.url)
        begin = gateway.calls()
        before = _cpu_s(*pids), _cpu_of_cluster(cluster), gateway.cpu_s()
        await _launch(cluster.url, mailing_id)
        await _finished(cluster.url, mailing_id)
        after = _cpu_s(*pids), _cpu_of_cluster(cluster), gateway.cpu_s()
    cpu = [(late - early) / messages * 1000 for early, late in zip(before, after, strict=True)]
    return Figures(gateway.per_second(begin, messages), *cpu)


async def _bare(gateway: "Gateway", messages: int) -> Figures:
    begin, before = gateway.calls(), gateway.cpu_s()
    loop = await asyncio.create_subprocess_exec(
        *(sys.executable, __file__, "--bare", gateway.url, "--messages", str(messages)), stdout=subprocess.PIPE
    )
    told, _ = await loop.communicate()
    cpu_s = float(told)
    gateway_cpu = (gateway.cpu_s() - before) / messages * 1000
    return Figures(gateway.per_second(begin, messages), cpu_s / messages * 1000, 0.0, gateway_cpu)


@contextlib.asynccontextmanager
async def _workers(database_url: str, gateway_url: str, processes: int) -> AsyncIterator[list[int]]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("MAILING_")} | {
        "MAILING_DATABASE_URL": database_url,
        "MAILING_GATEWAY_URL": gateway_url,
        "MAILING_GATEWAY_TOKEN": "a-token",
        "MAILING_GATEWAY_CONCURRENCY": str(CONNECTIONS),
        "MAILING_LOG_LEVEL": "warning",
    }
    argv = [sys.executable, "-m", "mailing", "worker"]
    workers = [await asyncio.create_subprocess_exec(*argv, env=env) for _ in range(processes)]
    try:
        await _ready(database_url, processes)
        yield [worker.pid for worker in workers]
    finally:
        for worker in workers:
            worker.terminate()
            await worker.wait()


async def _ready(database_url: str, processes: int) -> None:
    database = await asyncpg.connect(database_url)
    while await database.fetchval("SELECT count(*) FROM procrastinate_workers") < processes:
        await asyncio.sleep(0.1)
    await database.close()
    await asyncio.sleep(1)


async def _planned(url: str) -> int:
    """A paused mailing to every client, all of its messages due."""
    database = await asyncpg.connect(url)
    mailing_id: int = await database.fetchval(
        """INSERT INTO mailing (text, starts_at, ends_at, status, launched_at, planned_revision)
        VALUES ($1, now() - interval '1 h', now() + interval '1 day', 'paused', now(), 1) RETURNING id""",
        ORDER["text"],
    )
    await database.execute(
        """INSERT INTO message (mailing_id, client_id, due_at, closes_at)
        SELECT $1, id, now(), now() + interval '1 day' FROM client ORDER BY id""",
        mailing_id,
    )
    await database.execute("VACUUM ANALYZE message")
    await database.close()
    return mailing_id


async def _launch(url: str, mailing_id: int) -> None:
    engine = db.create_engine(url, application="bench", pool_size=1)
    async with db.transaction(db.sessions(engine)) as session:
        connection = await session.connection()
        await connection.exec_driver_sql(f"UPDATE mailing SET status = 'running' WHERE id = {mailing_id}")
        await queue.defer(session, "send_mailing", mailing_id=mailing_id, lane=0)
    await engine.dispose()


async def _finished(url: str, mailing_id: int) -> None:
    database = await asyncpg.connect(url)
    while await database.fetchval("SELECT status FROM mailing WHERE id = $1", mailing_id) != "finished":
        await asyncio.sleep(0.1)
    await database.close()


class Gateway:
    def __init__(self, port: int, log: Path, pid: int) -> None:
        self.url = f"http://127.0.0.1:{port}/v1"
        self._log = log
        self._pid = pid

    def calls(self) -> int:
        return len(self._log.read_bytes().splitlines())

    def per_second(self, begin: int, messages: int) -> float:
        """Raises Lost."""
        give_up_at = time.monotonic() + 5
        while self.calls() < begin + messages and time.monotonic() < give_up_at:
            time.sleep(0.2)
        lines = [line.split() for line in self._log.read_text().splitlines()[begin:]]
        if len(lines) != messages or len({address for _, address in lines}) != messages:
            raise Lost(f"{len(lines)} calls for {messages} messages")
        moments = [float(moment) for moment, _ in lines]
        return messages / (max(moments) - min(moments))

    def cpu_s(self) -> float:
        return _cpu_s(self._pid, *_children(self._pid))


@contextlib.contextmanager
def _gateway(home: Path, latency_s: float) -> Iterator[Gateway]:
    port, log = free_port(), home / "calls.log"
    log.touch()
    if latency_s:
        argv = [sys.executable, __file__, "--serve", str(port), "--latency", str(latency_s), "--log", str(log)]
    else:
        (home / "nginx.conf").write_text(_nginx(home, port, log))
        argv = ["nginx", "-p", str(home), "-e", str(home / "error.log"), "-c", str(home / "nginx.conf")]
    process = subprocess.Popen(argv)
    time.sleep(1)
    try:
        yield Gateway(port, log, process.pid)
    finally:
        process.terminate()
        process.wait()


def _nginx(home: Path, port: int, log: Path) -> str:
    return f"""
        daemon off; worker_processes 1; pid {home}/nginx.pid; {"user root;" if os.geteuid() == 0 else ""}
        events {{ worker_connections 2048; }}
        http {{
            log_format calls "$msec $uri"; access_log {log} calls buffer=64k flush=200ms;
            client_body_temp_path {home}/body; keepalive_requests 1000000000; keepalive_timeout 300s;
            server {{ listen 127.0.0.1:{port} backlog=1024; default_type text/json;
                location / {{ return 200 '{ANSWER}'; }} }}
        }}"""


class Delayed(asyncio.Protocol):
    """Answers each request `latency_s` after its first byte; requests of a few hundred bytes come in one piece."""

    def __init__(self, latency_s: float, log: list[str]) -> None:
        self._latency_s, self._log = latency_s, log

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._log.append(f"{time.time():.3f} {data.split(b' ', 2)[1].decode()}\n")
        answer = f"HTTP/1.1 200 OK\r\nContent-Type: text/json\r\nContent-Length: {len(ANSWER)}\r\n\r\n{ANSWER}".encode()
        asyncio.get_running_loop().call_later(self._latency_s, self._transport.write, answer)  # type: ignore[attr-defined]


async def _serve(port: int, latency_s: float, path: Path) -> None:
    lines: list[str] = []
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    await loop.create_server(lambda: Delayed(latency_s, lines), "127.0.0.1", port)
    with path.open("a") as log:
        while not stop.is_set():
            await asyncio.sleep(0.2)
            log.write("".join(lines))
            log.flush()
            lines.clear()


async def _loop(url: str, messages: int) -> None:
    """What aiohttp does alone: one session, a task for each connection, nothing recorded. Prints CPU seconds."""
    numbers = iter(range(messages))
    headers = {"Authorization": "Bearer a-token", "Content-Type": "application/json"}
    connector = aiohttp.TCPConnector(limit=CONNECTIONS)
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:

        async def calls() -> None:
            for number in numbers:
                order = msgspec.json.encode({"id": number} | ORDER)
                async with session.post(f"{url}/send/{number}", data=order) as response:
                    msgspec.json.decode(await response.read())

        before = time.process_time()
        await asyncio.gather(*(calls() for _ in range(CONNECTIONS)))
        print(time.process_time() - before)


def _cpu_s(*pids: int) -> float:
    fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    return sum(int(each[11]) + int(each[12]) for each in fields) / TICKS


def _cpu_of_cluster(cluster: Cluster) -> float:
    """The postmaster, its children, and those that have ended."""
    postmaster = int((cluster.data / "postmaster.pid").read_text().split()[0])
    ended = Path(f"/proc/{postmaster}/stat").read_text().rpartition(")")[2].split()[13:15]
    total = sum(map(int, ended)) / TICKS
    for pid in (postmaster, *_children(postmaster)):
        with contextlib.suppress(OSError):  # ended meanwhile
            total += _cpu_s(pid)
    return total


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--processes", type=int, nargs="+", default=[1])
    parser.add_argument("--latency", type=float, default=0.0, help="seconds")
    parser.add_argument("--bare", help=argparse.SUPPRESS)
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--log", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    given = _options()
    if given.bare:
        uvloop.run(_loop(given.bare, given.messages))
    elif given.serve:
        uvloop.run(_serve(given.serve, given.latency, given.log))
    else:
        asyncio.run(main(given))
