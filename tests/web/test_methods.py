"""HEAD: what GET would answer, without the body, at a real server."""

import httpx
import pytest

from support.api import KEY, Api
from support.database import Database
from support.plain_http import NO_TLS
from support.query_plans import executed

AUTH = {"Authorization": f"Bearer {KEY}"}
PATHS = [
    *("/health/live", "/health/ready", "/metrics", "/docs/", "/docs/redoc", "/docs/openapi.json"),
    *("/static/favicon.svg", "/", "/admin/", "/nowhere", "/mailing/api/clients/", "/mailing/api/Clients"),
    *(f"/mailing/api/{path}" for path in ("clients/1", "clients/404", "statistics/", "gateway/")),
]
CHANGING = {"content-length", "date", "x-request-id", "content-security-policy"}  # between two answers to one question


@pytest.mark.parametrize("path", PATHS)
async def test_head_answers_as_get_without_the_body(address: str, db: Database, path: str) -> None:
    await db.add_client()
    async with httpx.AsyncClient(verify=NO_TLS, base_url=address, headers=AUTH) as http:
        got, head = await http.get(path), await http.head(path)
    assert head.status_code == got.status_code
    assert head.content == b""
    told, told_to_get = ({k: v for k, v in each.headers.items() if k not in CHANGING} for each in (head, got))
    assert told == told_to_get


async def test_head_of_an_export_reads_its_first_page_alone_and_gives_its_place_back(
    address: str, db: Database
) -> None:
    await db.add_clients(30_000, tag="vip")
    async with httpx.AsyncClient(verify=NO_TLS, base_url=address, headers=AUTH) as http:
        with executed() as ran:
            for _ in range(5):
                head = await http.head("/mailing/api/clients/export")
                assert (head.status_code, head.content) == (200, b"")
                assert head.headers["content-type"].startswith("text/csv")
        assert sum("FROM client" in statement for statement, _ in ran) == 5
        assert (await http.get("/mailing/api/clients/export")).text.count("UTC") == 30_000


async def test_head_where_there_is_no_get_is_refused(api: Api) -> None:
    assert (await api.head("/mailings/1/pause")).status_code == 405
