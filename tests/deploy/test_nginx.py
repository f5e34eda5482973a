"""deploy/nginx, with a real nginx in front of the real service."""

import asyncio
import hashlib
import os
import shutil
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from mailing.process.ports import free_port
from support import ROOT
from support.api import KEY
from support.database import Database
from support.processes import is_listening, running, until

NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
CERTIFICATE = ROOT / "tests" / "support" / "localhost.pem"

pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed; Debian's package has that name")


@pytest.fixture
async def tls_port(address: str, tmp_path: Path) -> AsyncIterator[int]:
    """Where an nginx with our file answers; only addresses and files in it are this test's."""
    port = free_port()
    ours = (ROOT / "deploy" / "nginx" / "mailing.conf").read_text(encoding="utf-8")
    for written, here in [
        ("listen 80;", f"listen 127.0.0.1:{free_port()};"),
        ("listen 443 ssl;", f"listen 127.0.0.1:{port} ssl;"),
        ("/etc/ssl/mailing.pem", str(CERTIFICATE)),
        ("/etc/ssl/mailing.key", str(CERTIFICATE)),
        ("/var/log/nginx/", f"{tmp_path}/"),
        ("http://127.0.0.1:8000;", f"{address};"),
    ]:
        assert written in ours
        ours = ours.replace(written, here)
    kept = " ".join(f"{name}_temp_path {tmp_path}/{name};" for name in ("proxy", "fastcgi", "uwsgi", "scgi"))
    user = "user root;" if os.geteuid() == 0 else ""
    everything = f"http {{ client_body_temp_path {tmp_path}/body; {kept} access_log off;\n{ours} }}"
    (tmp_path / "nginx.conf").write_text(f"{user} pid {tmp_path}/pid; events {{ }}\n{everything}")
    command = [str(NGINX), "-p", str(tmp_path), "-e", "stderr", "-c", str(tmp_path / "nginx.conf"), "-g", "daemon off;"]
    async with running(*command, end_s=20) as process:
        await until(lambda: is_listening(port), seconds=30)
        yield port
    assert process.returncode == 0


@pytest.fixture
async def browser(tls_port: int) -> AsyncIterator[httpx.AsyncClient]:
    trusted = ssl.create_default_context(cafile=str(CERTIFICATE))
    site = f"https://localhost:{tls_port}"
    async with httpx.AsyncClient(base_url=site, verify=trusted, trust_env=False, timeout=30) as browser:
        yield browser


async def test_the_proxy_ends_tls_passes_on_what_the_api_must_know_and_keeps_metrics_inside(
    browser: httpx.AsyncClient,
) -> None:
    page = await browser.get("/docs/")
    assert page.status_code == 200
    assert "strict-transport-security" in page.headers  # the API was told of https
    assert (await browser.get("/mailing/api/clients/")).status_code == 401
    assert {(await browser.get(path)).status_code for path in ("/metrics", "/health/ready", "/")} == {404}
    for origin, status in [(str(browser.base_url), 303), ("https://elsewhere.example", 403)]:
        form = {"language": "ru", "next": "/admin/sign-in"}
        answer = await browser.post("/admin/preferences", data=form, headers={"Origin": origin.rstrip("/")})
        assert answer.status_code == status  # compared with the name asked for


async def test_wrong_keys_are_limited_for_each_address_and_good_ones_are_not(browser: httpx.AsyncClient) -> None:
    answers = await wrong_keys(browser)
    assert {answer.status_code for answer in answers[:20]} == {401}
    assert answers[0].headers["www-authenticate"] == "Bearer"
    refused = [answer for answer in answers if answer.status_code == 429]
    assert refused
    assert {answer.headers["retry-after"] for answer in refused} == {"5"}
    assert {answer.headers["content-type"] for answer in answers} == {"application/problem+json"}
    assert [answer.json()["status"] for answer in answers] == [answer.status_code for answer in answers]
    assert {(await ask(browser, KEY)).status_code for _ in range(60)} == {200}


async def wrong_keys(browser: httpx.AsyncClient) -> list[httpx.Response]:
    """Try wrong keys until the proxy refuses one: after 40 on a fast machine, on a slow one after many more."""
    answers: list[httpx.Response] = []
    while len(answers) < 1_000 and not any(answer.status_code == 429 for answer in answers):
        answers += await asyncio.gather(*(ask(browser, f"a-wrong-key-{number}") for number in range(20)))
    return answers


async def ask(browser: httpx.AsyncClient, key: str) -> httpx.Response:
    return await browser.get("/mailing/api/clients/?phone=79161234567", headers={"Authorization": f"Bearer {key}"})


async def test_sign_ins_are_limited_and_the_page_can_still_be_seen(browser: httpx.AsyncClient) -> None:
    headers = {"Sec-Fetch-Site": "same-origin"}
    posted = (browser.post("/admin/sign-in", data={"name": "x", "password": "x"}, headers=headers) for _ in range(45))
    tries = await asyncio.gather(*posted)
    refused = [answer for answer in tries if answer.headers["content-type"] == "application/problem+json"]
    assert {answer.status_code for answer in refused} == {429}
    assert (await browser.get("/admin/sign-in")).status_code == 200


async def test_what_a_client_says_of_its_address_is_not_passed_on(browser: httpx.AsyncClient, db: Database) -> None:
    headers = {"Sec-Fetch-Site": "same-origin", "X-Forwarded-For": "198.51.100.7"}
    await browser.post("/admin/sign-in", data={"name": "x", "password": "x"}, headers=headers)
    subjects = {bytes(row.key_hash) for row in await db.run("SELECT key_hash FROM login_throttle")}
    assert hashlib.sha256(b"address 127.0.0.1/32").digest() in subjects
    assert hashlib.sha256(b"address 198.51.100.7/32").digest() not in subjects


async def test_no_phone_of_an_address_gets_into_the_proxy_s_logs(browser: httpx.AsyncClient, tmp_path: Path) -> None:
    headers = {"Authorization": f"Bearer {KEY}", "Referer": "https://localhost/?phone=79161234567"}
    for path in ("/mailing/api/clients/", "/admin/clients", "/docs/", "/nowhere"):
        await browser.get(path, params={"phone": "79161234567"}, headers=headers)
    await wrong_keys(browser)
    logs = "".join(path.read_text() for path in tmp_path.glob("mailing*.log"))
    assert logs.count('"GET /mailing/api/clients/ HTTP/1.1" 200') == 1
    assert '"GET /mailing/api/clients/ HTTP/1.1" 429' in logs
    assert "79161234567" not in logs


async def test_a_head_in_front_of_the_proxy_has_an_end_as_well(browser: httpx.AsyncClient) -> None:
    answer = await browser.get("/docs/", headers={"X-Long": "x" * 40_000})
    assert answer.status_code == 400
