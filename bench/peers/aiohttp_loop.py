"""The limit of dispatch: the same calls over the same number of connections, without a database."""

import asyncio
from collections.abc import Iterator

import aiohttp
import uvloop

from bench.follow import follow, values
from bench.peers.gateway import send, session


async def work(given: dict[str, object]) -> None:
    url, connections, count = str(given["url"]), int(str(given["connections"])), int(str(given["count"]))
    ids = iter(range(1, count + 1))
    async with session(connections) as http, asyncio.TaskGroup() as calls:
        for _ in range(connections):
            calls.create_task(_send_all(http, url, ids))


async def _send_all(http: aiohttp.ClientSession, url: str, ids: Iterator[int]) -> None:
    for message_id in ids:
        await send(http, url, message_id, "79161234567", "hello")


if __name__ == "__main__":
    follow(lambda: uvloop.run(work(values())))
