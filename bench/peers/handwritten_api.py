"""The limit of the API: two hand-written handlers on asyncpg and msgspec, no framework. It checks one key."""

import secrets
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs

import asyncpg
import msgspec
import uvicorn

from bench.follow import values

COLUMNS = "id, phone, operator_code, tag, timezone, opted_out, created_at, updated_at"
READ = f"SELECT {COLUMNS} FROM client WHERE id = $1"
LIST = f"SELECT {COLUMNS} FROM client WHERE id > $1 ORDER BY id LIMIT $2"
JSON = [(b"content-type", b"application/json")]


class Client(msgspec.Struct):
    id: int
    phone: str
    operator_code: str
    tag: str | None
    timezone: str
    opted_out: bool
    created_at: datetime
    updated_at: datetime


class Page(msgspec.Struct):
    items: list[Client]
    next_cursor: int | None


class Api:
    def __init__(self, database: str, key: str) -> None:
        self._database = database
        self._authorization = f"Bearer {key}".encode()
        self._encode = msgspec.json.Encoder().encode
        self._pool: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        status, body = await self._answer(scope)
        length = (b"content-length", str(len(body)).encode())
        await send({"type": "http.response.start", "status": status, "headers": [*JSON, length]})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: Any) -> tuple[int, bytes]:  # noqa: ANN401 - ASGI
        given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        if not secrets.compare_digest(given, self._authorization):
            return 401, b"{}"
        client = scope["path"].removeprefix("/mailing/api/clients").strip("/")
        if not client:
            query = parse_qs(scope["query_string"].decode())
            return await self._list(int(query.get("cursor", ["0"])[0]), int(query.get("limit", ["50"])[0]))
        return await self._read(int(client)) if client.isdecimal() else (404, b"{}")

    async def _read(self, client_id: int) -> tuple[int, bytes]:
        row = await self._pool.fetchrow(READ, client_id)
        return (200, self._encode(Client(*row))) if row else (404, b"{}")

    async def _list(self, after: int, limit: int) -> tuple[int, bytes]:
        rows = await self._pool.fetch(LIST, after, limit + 1)
        items = [Client(*row) for row in rows[:limit]]
        return 200, self._encode(Page(items, items[-1].id if len(rows) > limit else None))

    async def _live(self, receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI
        await receive()
        self._pool = await asyncpg.create_pool(self._database, min_size=10, max_size=10)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._pool.close()
        await send({"type": "lifespan.shutdown.complete"})


if __name__ == "__main__":
    given = values()
    uvicorn.run(Api(given["database"], given["key"]), port=given["port"], log_level="warning", access_log=False)
