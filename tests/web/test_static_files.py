import hashlib
import tomllib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from mailing.settings import Settings
from mailing.web.static_files import STATIC
from support.answers import problem_of
from support.api import bound_app
from support.asgi import client_of

VENDOR = STATIC / "vendor"
MANIFEST: dict[str, Any] = tomllib.loads((VENDOR / "MANIFEST.toml").read_text())
FILES = {file["path"]: file["sha256"] for package in MANIFEST["package"] for file in package["file"]}


@pytest.fixture
async def web() -> AsyncIterator[httpx.AsyncClient]:
    """Build the application without a database: static files need none."""
    with bound_app(Settings()) as app:
        async with client_of(app) as client:
            yield client


def test_every_vendored_file_is_listed_with_its_hash_and_nothing_else_lies_there() -> None:
    found = {
        path.relative_to(VENDOR).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in VENDOR.rglob("*")
        if path.is_file() and path.name != "MANIFEST.toml"
    }
    assert found == FILES


@pytest.mark.parametrize("package", MANIFEST["package"], ids=lambda package: package["name"])
def test_a_vendored_package_names_its_licence_and_brings_the_text(package: dict[str, Any]) -> None:
    home = f"{package['name']}-{package['version']}"
    assert f"{home}/LICENSE" in FILES
    assert {Path(file["path"]).parent.as_posix() for file in package["file"]} == {home}
    opening = {"MIT": "The MIT License (MIT)", "Apache-2.0": "Apache License", "0BSD": "Zero-Clause BSD"}[
        package["licence"]
    ]
    assert opening in (VENDOR / home / "LICENSE").read_text()
    assert package["version"] in package["origin"]
    assert package["integrity"].startswith("sha512-")


@pytest.mark.parametrize("path", [path for path in FILES if path.endswith((".js", ".css"))])
async def test_a_vendored_file_is_served_as_it_is_and_kept_for_a_year(web: httpx.AsyncClient, path: str) -> None:
    answer = await web.get(f"/static/vendor/{path}")
    assert answer.status_code == 200
    assert hashlib.sha256(answer.content).hexdigest() == FILES[path]
    assert answer.headers["content-type"].split(";")[0] == ("text/css" if path.endswith(".css") else "text/javascript")
    assert answer.headers["content-type"].endswith("; charset=utf-8")
    assert answer.headers["content-encoding"] == "gzip"
    assert int(answer.headers["content-length"]) < len(answer.content) / 3
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_a_client_that_reads_no_gzip_gets_the_plain_file(web: httpx.AsyncClient) -> None:
    plain = await web.get("/static/favicon.svg", headers={"Accept-Encoding": "identity"})
    assert plain.content == (STATIC / "favicon.svg").read_bytes()
    assert plain.headers["content-type"] == "image/svg+xml"
    assert "content-encoding" not in plain.headers
    assert plain.headers["vary"] == "Accept-Encoding"


async def test_our_own_files_are_asked_for_again_and_answered_304_while_they_are_the_same(
    web: httpx.AsyncClient,
) -> None:
    first = await web.get("/static/docs/page.css")
    assert first.headers["cache-control"] == "no-cache"
    again = await web.get("/static/docs/page.css", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    other = await web.get("/static/docs/page.css", headers={"If-None-Match": 'W/"another"'})
    assert other.content == first.content


@pytest.mark.parametrize(
    "path",
    [
        *("", "/", "/docs", "/docs/", "/vendor", "/vendor/MANIFEST.toml", "/nothing.js", "/%00", "/favicon.svg%00"),
        *("/../app.py", "/..%2fapp.py", "/%2e%2e/app.py", "/docs/..%2f..%2f..%2fapp.py"),
        *("/..%5capp.py", "//etc/passwd"),
    ],
)
async def test_nothing_else_is_served_and_no_directory_is_listed(web: httpx.AsyncClient, path: str) -> None:
    """Sent as it stands: httpx would fold `..` before sending."""
    request = web.build_request("GET", "/static")
    request.url = request.url.copy_with(raw_path=f"/static{path}".encode())
    assert problem_of(await web.send(request), 404)
