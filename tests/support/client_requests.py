"""What every test of the API asks for."""

from support.answers import Json, json_of
from support.api import Api

MOSCOW: Json = {"phone": "79161234567", "tag": "vip", "timezone": "Europe/Moscow"}


async def created(api: Api, **fields: object) -> Json:
    return json_of(await api.post("/clients/", json=MOSCOW | fields), 201)


async def uploaded(api: Api, file: str | bytes) -> Json:
    return json_of(await api.post("/clients/import", content=file, headers={"Content-Type": "text/csv"}))
