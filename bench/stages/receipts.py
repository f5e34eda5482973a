"""Receipts over HTTP, one a request, as Kannel sends them: one process of `mailing api`, as it is shipped."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, aclosing, contextmanager
from functools import partial
from pathlib import Path

from bench import senders
from bench.cost import Meter
from bench.lab import OURS, Lab, mailing
from bench.measure import Goal, Party, Sample, Stage
from bench.stages.api import serving
from bench.wrk import load
from mailing.database.engine import create_engine
from mailing.database.read_pool import ReadPool
from mailing.gateway.providers.receipt import Receipt, ReceiptState
from mailing.process.ports import free_port
from mailing.receipts.address import receipt_path
from mailing.receipts.inbox import BATCH
from mailing.receipts.repository import store

DATABASE = "bench_receipts"
MESSAGES = 200_000
CONNECTIONS = (256, 64)  # Kannel opens up to 512
ALIVE, STORED = "GET /health/live", f"stored, {BATCH} a statement"

# Each receipt once, then from the beginning: those are repeats, which change nothing.
SCRIPT = """
local paths, n = {}, 0
for line in io.lines("%s") do paths[#paths + 1] = line end
request = function() n = n %% #paths + 1; return wrk.format("GET", paths[n] .. "?state=1") end
"""
SENT = (
    "SET LOCAL session_replication_role = replica",  # a shortcut past the transitions
    "UPDATE message SET status = 'sent', finished_at = now(), counted_attempts = 1",
)


@contextmanager
def _parties(lab: Lab) -> Iterator[list[Party]]:
    count = lab.count(MESSAGES, quick=5_000)
    with lab.database(DATABASE, like=OURS) as url, ExitStack() as servers:
        senders.add_mailing(lab, DATABASE, count)
        lab.sql(DATABASE, *SENT)
        lab.vacuum(DATABASE)
        port = free_port()
        settings = lab.mailing(DATABASE, port=port, gateway_provider="kannel", public_url=f"http://127.0.0.1:{port}")
        pid = servers.enter_context(serving(lab, mailing("api"), port, settings))
        address = f"http://127.0.0.1:{port}"
        script = str(_script(lab))
        yield [
            *(
                Party(_name(connections), partial(_load, lab, pid, address, connections, "-s", script))
                for connections in CONNECTIONS
            ),
            Party(ALIVE, partial(_load, lab, pid, f"{address}/health/live", CONNECTIONS[0])),
            Party(STORED, lambda: Sample(asyncio.run(_store(lab, url, count)))),
        ]


def _script(lab: Lab) -> Path:
    key = lab.value(DATABASE, "SELECT receipt_key FROM installation")
    ids = lab.sql(DATABASE, "SELECT id FROM message ORDER BY id")
    paths, script = lab.directory / "paths", lab.directory / "receipts.lua"
    paths.write_text("".join(f"{receipt_path(bytes(key), 'kannel', message_id)}\n" for (message_id,) in ids), "utf-8")
    script.write_text(SCRIPT % paths, "utf-8")
    return script


def _name(connections: int) -> str:
    return f"receipts over HTTP, {connections} connections"


def _load(lab: Lab, pid: int, address: str, connections: int, *options: str) -> Sample:
    _forget(lab)
    return load(lab, pid, address, *options, connections=connections)


async def _store(lab: Lab, url: str, count: int) -> float:
    """Store a receipt of each message, without HTTP; return receipts a second."""
    _forget(lab)
    ids = [row[0] for row in lab.sql(DATABASE, "SELECT id FROM message ORDER BY id")]
    engine = create_engine(url, application="bench", pool_size=1)
    async with aclosing(ReadPool(engine)) as pool:
        with Meter({"postgres": lab.cluster.postmaster}) as meter:
            for first in range(0, count, BATCH):
                batch = [Receipt(each, ReceiptState.delivered, None, None) for each in ids[first : first + BATCH]]
                await store(pool, batch)
    await engine.dispose()
    return count / meter.seconds


def _forget(lab: Lab) -> None:
    lab.sql(DATABASE, "TRUNCATE receipt", "TRUNCATE receipt_counts")


STAGE = Stage(
    name="receipts",
    title="Receipts, one a request",
    unit="receipts/s",
    parties=_parties,
    needs=("wrk",),
    goals=(Goal(_name(CONNECTIONS[0]), ALIVE, least=1), Goal(STORED, _name(CONNECTIONS[0]), least=3)),
    notes=(
        "Each answer waits for the commit of its group. `/health/live` does nothing, but passes routing and log.",
        "The goal in figures is 5,000 receipts/s on two processors, for API and PostgreSQL together.",
    ),
)
