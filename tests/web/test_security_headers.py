"""What every answer says to browsers and proxies: routes, pages, files, refusals."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from mailing.settings import Settings
from mailing.web.security_headers import ALWAYS, POLICY
from support.api import Api, bound_app
from support.asgi import client_of

ANSWERS = {
    "/health/live": 200,
    "/docs/": 200,
    "/docs/openapi.json": 200,
    "/static/favicon.svg": 200,
    "/": 302,
    "/mailing/api/clients/": 401,
    "/nowhere": 404,
    "/mailing/api/%00": 404,
}


@asynccontextmanager
async def stranger(scheme: str = "http") -> AsyncIterator[httpx.AsyncClient]:
    with bound_app(Settings()) as app:
        async with client_of(app, f"{scheme}://test") as client:
            yield client


@pytest.mark.parametrize(("path", "status"), ANSWERS.items())
async def test_every_answer_carries_the_safe_headers(path: str, status: int) -> None:
    async with stranger() as client:
        answer = await client.get(path)
    assert answer.status_code == status
    assert [name for name in ALWAYS if len(answer.headers.get_list(name)) != 1] == []
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]


async def test_what_is_no_page_loads_and_runs_nothing() -> None:
    async with stranger() as client:
        assert (await client.get("/mailing/api/clients/")).headers["content-security-policy"] == POLICY
        assert (await client.get("/docs/")).headers["content-security-policy"] != POLICY


async def test_no_cache_keeps_an_answer_of_the_api(api: Api) -> None:
    assert (await api.get("/clients/")).headers["cache-control"] == "no-store"
    assert (await api.get("/Clients/")).headers["cache-control"] == "no-store"


async def test_only_under_https_browsers_are_told_to_stay_there() -> None:
    async with stranger("https") as client:
        assert "max-age=31536000" in (await client.get("/docs/")).headers["strict-transport-security"]
    async with stranger() as client:
        assert "strict-transport-security" not in (await client.get("/docs/")).headers


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/clients", "GET, HEAD, OPTIONS, POST"),
        ("/clients/1", "DELETE, GET, HEAD, OPTIONS, PATCH, PUT"),
        ("/mailings/1/pause", "OPTIONS, POST"),
    ],
)
async def test_options_names_every_method_of_a_path(api: Api, path: str, allowed: str) -> None:
    answer = await api.options(path)
    assert (answer.status_code, answer.headers["allow"]) == (204, allowed)
    refused = await api.request("TRACE", path)
    assert (refused.status_code, refused.headers["allow"]) == (405, allowed)
