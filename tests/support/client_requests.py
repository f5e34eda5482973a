"""What every test of the API asks for."""

from typing import Any

import httpx

MOSCOW: dict[str, Any] = {"phone": "79161234567", "tag": "vip", "timezone": "Europe/Moscow"}


async def created(api: httpx.AsyncClient, **fields: object) -> dict[str, Any]:
    answer = await api.post("/clients/", json=MOSCOW | fields)
    assert answer.status_code == 201, answer.text
    client: dict[str, Any] = answer.json()
    return client


async def uploaded(api: httpx.AsyncClient, file: str | bytes) -> dict[str, Any]:
    answer = await api.post("/clients/import", content=file, headers={"Content-Type": "text/csv"})
    assert answer.status_code == 200, answer.text
    result: dict[str, Any] = answer.json()
    return result


def bad_fields(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 400, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    return [error["field"] for error in answer.json()["errors"]]
