import re
from collections.abc import AsyncIterator
from functools import cache
from typing import Any

import httpx
import pytest
from litestar import Litestar, Router, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, JSONBody
from msgspec import Struct

from mailing import __version__
from mailing.access.api_guards import require_key
from mailing.app import create_app
from mailing.settings import Settings
from mailing.web.openapi import CSP, DESCRIPTION
from mailing.web.parameters import Body
from support.asgi import client_of
from support.openapi import faults, operations


class Sample(Struct):
    name: str


@get("/sample/{sample_id:int}", tags=["clients"], summary="Read a sample")
async def get_sample(sample_id: FromPath[int]) -> Sample:
    return Sample(str(sample_id))


@post("/sample", tags=["samples"], operation_id="forgetful-sample", dto=Body, return_dto=None)
async def forgetful(data: JSONBody[Sample]) -> Sample:
    return data


@get("/sample", tags=["clients"], summary="List samples", operation_id="get_sample")
async def namesake(name: FromQuery[str] = "") -> Sample:
    return Sample(name)


@cache
def app_with(*handlers: HTTPRouteHandler, security: bool = True) -> Litestar:
    """Build the real application with more routes. It needs no database: these tests stop at the guard."""
    app = create_app(Settings())
    requirement = [{"key": list[str]()}] if security else []
    app.register(Router("/mailing/api", route_handlers=handlers, before_request=require_key, security=requirement))
    return app


def document(app: Litestar) -> dict[str, Any]:
    return app.openapi_schema.to_schema()


@pytest.fixture
async def stranger() -> AsyncIterator[httpx.AsyncClient]:
    """Somebody without a key."""
    async with client_of(app_with(get_sample)) as client:
        yield client


@pytest.mark.parametrize("path", ["/docs", "/docs/", "/docs/redoc", "/docs/redoc/"])
async def test_the_pages_need_no_key_and_hold_no_inline_script_or_style(stranger: httpx.AsyncClient, path: str) -> None:
    answer = await stranger.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert not re.search(r"<script(?! src=)|<style|style=|\son\w+=|javascript:", answer.text)
    assert "content-security-policy" in answer.headers


@pytest.mark.parametrize("path", ["/docs/", "/docs/redoc"])
async def test_everything_that_a_page_loads_lies_in_the_package(stranger: httpx.AsyncClient, path: str) -> None:
    loaded = re.findall(r'(?:src|href)="([^"]+)"', (await stranger.get(path)).text)
    assert len(loaded) >= 4
    for url in loaded:
        assert re.match(r"/(static|docs)/", url)
        assert (await stranger.get(url)).status_code == 200


@pytest.mark.parametrize("path", ["/docs/", "/docs/redoc", "/docs/openapi.json", "/docs/no-such-page"])
async def test_the_policy_lets_nothing_foreign_or_inline_in(stranger: httpx.AsyncClient, path: str) -> None:
    headers = (await stranger.get(path)).headers
    assert headers["content-security-policy"] == CSP
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    directives = dict(directive.split(" ", 1) for directive in CSP.split("; "))
    assert directives["default-src"] == "'none'"
    assert directives["script-src"] == directives["connect-src"] == "'self'"
    sources = {source for sources in directives.values() for source in sources.split()}
    assert {source for source in sources if not source.startswith("'sha256-")} <= {"'none'", "'self'", "data:", "blob:"}


async def test_the_document_is_json_and_speaks_openapi_3_1(stranger: httpx.AsyncClient) -> None:
    answer = await stranger.get("/docs/openapi.json")
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert body["openapi"].startswith("3.1.")
    assert body["info"] == {
        "title": "Mailing",
        "version": __version__,
        "description": DESCRIPTION.strip(),
        "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
    }
    assert {"type": "http", "scheme": "bearer"}.items() <= body["components"]["securitySchemes"]["key"].items()
    tags = [tag["name"] for tag in body["tags"]]
    assert tags == ["clients", "mailings", "messages", "gateway", "statistics", "events"]
    assert all(tag["description"] for tag in body["tags"])


def test_what_a_client_must_know_fits_in_25_lines() -> None:
    assert len(DESCRIPTION.strip().splitlines()) <= 25
    for topic in ("Authorization: Bearer", "application/problem+json", "`cursor`", "RFC 3339", "trailing slash"):
        assert topic in DESCRIPTION


async def test_the_root_leads_to_the_documentation(stranger: httpx.AsyncClient) -> None:
    answer = await stranger.get("/")
    assert (answer.status_code, answer.headers["location"]) == (302, "/docs/")


async def test_every_operation_of_the_api_needs_a_key(stranger: httpx.AsyncClient) -> None:
    asked = 0
    for method, path, _ in operations((await stranger.get("/docs/openapi.json")).json()):
        answer = await stranger.request(method, re.sub(r"{\w+}", "1", path) + "?unknown=1")
        assert (method, path, answer.status_code) == (method, path, 401)
        assert answer.headers["content-type"] == "application/problem+json"
        asked += 1
    assert asked


def test_the_document_keeps_every_rule() -> None:
    assert faults(document(create_app(Settings()))) == []
    assert faults(document(app_with(get_sample))) == []


def test_an_operation_without_its_errors_is_found() -> None:
    where = "GET /mailing/api/sample/{sample_id}"
    body = document(app_with(get_sample))
    answers = body["paths"]["/mailing/api/sample/{sample_id}"]["get"]["responses"]
    for status in ("401", "404", "429", "503"):
        del answers[status]
    answers["400"]["content"] = {"application/json": {"schema": {"type": "object"}}}
    assert faults(body) == [
        *(f"{where}: {status} is not documented" for status in (401, 404, 429, 503)),
        f"{where}: 400 is not a Problem in application/problem+json",
    ]


def test_an_operation_has_the_errors_of_its_path_and_its_body() -> None:
    paths = document(app_with(get_sample, forgetful))["paths"]
    every = {"400", "401", "403", "429", "503"}
    assert paths["/mailing/api/sample/{sample_id}"]["get"]["responses"].keys() == every | {"200", "404"}
    assert paths["/mailing/api/sample"]["post"]["responses"].keys() >= every | {"408", "413"}


def test_an_operation_that_says_nothing_about_itself_is_found() -> None:
    found = faults(document(app_with(forgetful, security=False)))
    assert all(fault.startswith("POST /mailing/api/sample: ") for fault in found)
    told = [fault.split(": ", 1)[1].split(" ")[0] for fault in found]
    assert told == ["response", "write", "name", "security", "tags"]


def test_a_repeated_name_and_a_dangling_reference_are_found() -> None:
    body = document(app_with(get_sample))
    body["paths"]["/mailing/api/other"] = {"get": body["paths"]["/mailing/api/sample/{sample_id}"]["get"]}
    del body["components"]["schemas"]["FieldError"]
    found = faults(body)
    assert "operationId is not unique: ['get_sample']" in found
    assert "#/components/schemas/FieldError leads nowhere" in found


def test_what_a_generator_of_clients_would_have_to_guess_is_found() -> None:
    body = document(app_with(get_sample))
    answer = body["paths"]["/mailing/api/sample/{sample_id}"]["get"]["responses"]["200"]
    del answer["content"]["application/json"]["schema"]
    answer["headers"] = {"Location": {"description": "its address"}}
    schemas = body["components"]["schemas"]
    del schemas["ClientOut"]["properties"]["id"]["format"]
    schemas["clientout"] = {"title": "Status", "type": "string"}
    schemas["Page_Of_Clients"] = {"type": "string"}
    where = "GET /mailing/api/sample/{sample_id}: response 200"
    assert set(faults(body)) == {
        "schemas.Page_Of_Clients has a bad name",
        "schemas have one name in upper or lower case: ['clientout']",
        "titles are not the names of their schemas: ['clientout']",
        "1 integers have no format",
        f"{where}: Location has no schema",
        f"{where} must have a content with a schema, and 204 none",
    }


def test_two_handlers_of_one_name_cannot_be_documented() -> None:
    with pytest.raises(Exception, match="get_sample"):
        document(app_with(get_sample, namesake))


def test_every_post_is_documented_with_the_idempotency_key() -> None:
    for method, path, operation in operations(document(app_with(forgetful))):
        names = [parameter["name"] for parameter in operation.get("parameters", [])]
        assert ("Idempotency-Key" in names) == (method == "post"), path
        if method == "post":
            assert operation["responses"].keys() >= {"400", "409", "422"}
            done = min(operation["responses"])
            assert "Idempotent-Replayed" in operation["responses"][done]["headers"]
