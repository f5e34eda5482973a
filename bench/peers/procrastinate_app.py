"""Procrastinate with one job per message, which calls the gateway and stores the result."""

from typing import Any

import asyncpg
import procrastinate
import uvloop
from procrastinate.types import JSONDict

from bench.follow import done, ready, values
from bench.peers.gateway import send, session

BATCH = 1000


async def enqueue(given: dict[str, Any]) -> None:
    app = _app(given)
    async with app.open_async():
        deferrer = app.configure_task("send", queue="messages")
        ready()
        for first in range(1, given["count"] + 1, BATCH):
            ids = range(first, min(first + BATCH, given["count"] + 1))
            jobs: list[JSONDict] = [{"message_id": each, "phone": "79161234567", "text": "hello"} for each in ids]
            await deferrer.batch_defer_async(*jobs)
        done()


async def work(given: dict[str, Any]) -> None:
    app = _app(given)
    async with (
        app.open_async(),
        session(given["connections"]) as http,
        asyncpg.create_pool(given["database"], min_size=10, max_size=10) as pool,
    ):

        @app.task(name="send", queue="messages")
        async def deliver(message_id: int, phone: str, text: str) -> None:
            await send(http, given["url"], message_id, phone, text)
            await pool.execute("UPDATE message SET status = 'sent', sent_at = now() WHERE id = $1", message_id)

        ready()
        # until the queue is empty
        await app.run_worker_async(
            queues=["messages"], concurrency=given["connections"], wait=False, install_signal_handlers=False
        )
        done()


def _app(given: dict[str, Any]) -> procrastinate.App:
    connector = procrastinate.PsycopgConnector(conninfo=given["database"], min_size=10, max_size=10)
    return procrastinate.App(connector=connector)


async def _schema(given: dict[str, Any]) -> None:
    app = _app(given)
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        ready()
        done()


if __name__ == "__main__":
    given = values()
    uvloop.run({"schema": _schema, "enqueue": enqueue, "work": work}[given["do"]](given))
