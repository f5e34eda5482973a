"""What every test of the API asks for."""

from collections.abc import AsyncIterator

from mailing.clients.csv_transfer import import_clients
from mailing.clients.schemas import ImportResult
from support.answers import Json, json_of
from support.api import Api
from support.database import Database

MOSCOW: Json = {"phone": "79161234567", "tag": "vip", "timezone": "Europe/Moscow"}


async def created(api: Api, **fields: object) -> Json:
    return json_of(await api.post("/clients/", json=MOSCOW | fields), 201)


async def uploaded(api: Api, file: str | bytes) -> Json:
    return json_of(await api.post("/clients/import", content=file, headers={"Content-Type": "text/csv"}))


async def imported(db: Database, file: str) -> ImportResult:
    return await db.commit(import_clients, in_pieces(file), by="tests")


async def in_pieces(text: str, size: int = 10_000) -> AsyncIterator[bytes]:
    """As a body comes over a socket."""
    body = text.encode()
    for start in range(0, len(body), size):
        yield body[start : start + size]
