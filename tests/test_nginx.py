"""deploy/nginx, with a real nginx in front of the real service."""

import os
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from documents import ROOT
from mailing.site import free_port
from processes import until

NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
CERTIFICATE = ROOT / "tests" / "reports" / "localhost.pem"

pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed; Debian's package has that name")


@pytest.fixture
def tls_port(address: str, tmp_path: Path) -> Iterator[int]:
    """Where an nginx with our file answers; only addresses and files in it are this test's."""
    port = free_port()
    ours = (ROOT / "deploy" / "nginx" / "mailing.conf").read_text(encoding="utf-8")
    for written, here in [
        ("listen 80;", f"listen 127.0.0.1:{free_port()};"),
        ("listen 443 ssl;", f"listen 127.0.0.1:{port} ssl;"),
        ("/etc/ssl/mailing.pem", str(CERTIFICATE)),
        ("/etc/ssl/mailing.key", str(CERTIFICATE)),
        ("127.0.0.1:8000", str(urlsplit(address).netloc)),
    ]:
        assert ours.count(written) == 1
        ours = ours.replace(written, here)
    kept = " ".join(f"{name}_temp_path {tmp_path}/{name};" for name in ("proxy", "fastcgi", "uwsgi", "scgi"))
    user = "user root;" if os.geteuid() == 0 else ""
    everything = f"http {{ client_body_temp_path {tmp_path}/body; {kept} access_log off;\n{ours} }}"
    (tmp_path / "nginx.conf").write_text(f"{user} pid {tmp_path}/pid; events {{ }}\n{everything}")
    command = [str(NGINX), "-p", str(tmp_path), "-e", "stderr", "-c", str(tmp_path / "nginx.conf"), "-g", "daemon off;"]
    process = subprocess.Popen(command)  # noqa: S603 - found on PATH
    yield port
    process.terminate()
    assert process.wait(20) == 0


async def test_the_proxy_ends_tls_passes_on_what_the_api_must_know_and_keeps_metrics_inside(tls_port: int) -> None:
    await until(lambda: _answers(tls_port), seconds=30)
    site = f"https://localhost:{tls_port}"
    trusted = ssl.create_default_context(cafile=str(CERTIFICATE))
    async with httpx.AsyncClient(base_url=site, verify=trusted, trust_env=False) as browser:
        page = await browser.get("/docs/")
        assert page.status_code == 200
        assert "strict-transport-security" in page.headers  # the API was told of https
        assert (await browser.get("/mailing/api/clients/")).status_code == 401
        assert {(await browser.get(path)).status_code for path in ("/metrics", "/health/ready", "/")} == {404}
        for origin, status in [(site, 303), ("https://elsewhere.example", 403)]:  # compared with the name asked for
            form = {"language": "ru", "next": "/admin/sign-in"}
            answer = await browser.post("/admin/preferences", data=form, headers={"Origin": origin})
            assert answer.status_code == status


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
