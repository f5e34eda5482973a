"""The API under load: one client read, and a page of fifty. Each server is one process of uvicorn."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import msgspec

from bench import senders
from bench.children import run, running, until
from bench.errors import BenchError
from bench.lab import OURS, Lab, mailing
from bench.measure import Goal, Party, Stage
from bench.wrk import load
from mailing.process.ports import free_port
from support.processes import is_listening

DATABASE = "bench_api"
CLIENTS = 10_000
CONNECTIONS = 16
ROUTES = {"read one": "/mailing/api/clients/5000/", "list 50": "/mailing/api/clients/?limit=50"}
MAILING, HAND, FASTAPI = "Mailing", "by hand", "FastAPI"
PEERS = {HAND: "bench.peers.handwritten_api", FASTAPI: "bench.peers.fastapi_api"}


@contextmanager
def _parties(lab: Lab) -> Iterator[list[Party]]:
    with lab.database(DATABASE, like=OURS) as url, ExitStack() as servers:
        senders.add_clients(lab, DATABASE, CLIENTS)
        lab.vacuum(DATABASE)
        key = run(mailing("key", "create", "bench"), {}, env=lab.mailing(DATABASE), cwd=lab.directory)[2].split()[-1]
        parties = []
        for name in (MAILING, HAND, FASTAPI):
            port = free_port()
            settings = lab.mailing(DATABASE, port=port, api_rate=0, log_level="info")
            command = _command(name, database=url, key=key, port=port)
            pid = servers.enter_context(serving(lab, command, port, settings))
            for what, path in ROUTES.items():
                url_of_route = f"http://127.0.0.1:{port}{path}"
                authorized = ("-H", f"Authorization: Bearer {key}")
                measure = partial(load, lab, pid, url_of_route, *authorized, connections=CONNECTIONS)
                parties.append(Party(_name(name, what), measure))
        yield parties


def _command(name: str, **given: str | int) -> Sequence[str]:
    if name == MAILING:
        return mailing("api")
    return [sys.executable, "-m", PEERS[name], msgspec.json.encode(given).decode()]


@contextmanager
def serving(lab: Lab, command: Sequence[str], port: int, environment: dict[str, str]) -> Iterator[int]:
    """Yield the process id once it answers. It writes its log, to /dev/null."""
    root = Path.cwd()  # so that `bench` can be imported
    environment = environment | {"PYTHONPATH": f"{root}:{os.environ.get('PYTHONPATH', '')}"}
    with running(command, Path(os.devnull), env=environment, cwd=lab.directory) as process:

        def answers() -> bool:
            if process.poll() is not None:
                raise BenchError(f"{command} ended with {process.returncode}")
            return is_listening(port)

        until(answers, f"{command} answers", within_s=60)
        yield process.pid


def _name(server: str, route: str) -> str:
    return f"{server}, {route}"


STAGE = Stage(
    name="api",
    title=f"API, {CLIENTS:,} clients, {CONNECTIONS} connections",
    unit="requests/s",
    parties=_parties,
    needs=("wrk",),
    imports=("fastapi",),
    goals=tuple(
        Goal(_name(MAILING, route), _name(other, route), least=least)
        for route in ROUTES
        for other, least in ((HAND, 0.7), (FASTAPI, 2))
    ),
    notes=(
        (
            "Mailing as it is shipped: a key from the database, looked up once a second, a log line for each request, "
            "safe headers, checked parameters, metrics; only its limit of requests a second is lifted. The others "
            "compare one key that they were given and write no log."
        ),
    ),
)
