"""PGQueuer with one job per message, which calls the gateway and stores the result."""

from datetime import timedelta
from typing import Any

import asyncpg
import msgspec
import uvloop
from pgqueuer import PgQueuer
from pgqueuer.models import Job
from pgqueuer.queries import Queries
from pgqueuer.types import QueueExecutionMode

from bench.follow import done, ready, values
from bench.peers.gateway import send, session

BATCH = 1000  # enqueued in one statement
CLAIM = 100  # jobs fetched at once; its default of 10 is slower


async def enqueue(given: dict[str, Any]) -> None:
    async with asyncpg.create_pool(given["database"], min_size=2, max_size=2) as pool:
        queries = Queries.from_asyncpg_pool(pool)
        await queries.install()
        ready()
        for first in range(1, given["count"] + 1, BATCH):
            ids = range(first, min(first + BATCH, given["count"] + 1))
            bodies: list[bytes | None] = [msgspec.json.encode([each, "79161234567", "hello"]) for each in ids]
            await queries.enqueue(["send"] * len(ids), bodies, [0] * len(ids))
        done()


async def work(given: dict[str, Any]) -> None:
    async with (
        session(given["connections"]) as http,
        asyncpg.create_pool(given["database"], min_size=10, max_size=10) as pool,
    ):
        queue = PgQueuer.from_asyncpg_pool(pool)

        @queue.entrypoint("send")
        async def deliver(job: Job) -> None:
            message_id, phone, text = msgspec.json.decode(job.payload or b"")
            await send(http, given["url"], message_id, phone, text)
            await pool.execute("UPDATE message SET status = 'sent', sent_at = now() WHERE id = $1", message_id)

        ready()
        await queue.qm.run(
            dequeue_timeout=timedelta(seconds=1),
            batch_size=CLAIM,
            mode=QueueExecutionMode.drain,
            max_concurrent_tasks=2 * CLAIM,
        )
        done()


if __name__ == "__main__":
    given = values()
    uvloop.run({"enqueue": enqueue, "work": work}[given["do"]](given))
