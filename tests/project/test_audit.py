"""`make audit` tells three things apart: nothing known, something known, nobody asked. An advisory database that speaks
OSV's format answers on the loopback.
"""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from support import ROOT

AUDIT = ROOT / ".ci" / "audit"
UV = shutil.which("uv") or shutil.which("uv", path=Path(sys.executable).parent)
NOWHERE = "http://127.0.0.1:1"

# Whose packages are asked about: of the registry uv asks for each package too, whether its project was archived.
PROJECT = """
[project]
name = "audited"
version = "1"
requires-python = ">=3.11"
dependencies = ["jinja2"]
"""
LOCK = f"""
version = 1
requires-python = ">=3.11"

[[package]]
name = "audited"
version = "1"
source = {{ virtual = "." }}
dependencies = [{{ name = "jinja2" }}]

[package.metadata]
requires-dist = [{{ name = "jinja2" }}]

[[package]]
name = "jinja2"
version = "3.1.6"
source = {{ registry = "{NOWHERE}/simple" }}
"""
Audit = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.skipif(UV is None, reason="uv asks for the advisories, and there is none; make brings one")


@pytest.fixture
def audit(tmp_path: Path) -> Audit:
    """Run it for a project with one dependency."""
    (tmp_path / ".ci").mkdir()
    shutil.copy(AUDIT, tmp_path / ".ci")
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    (tmp_path / "uv.lock").write_text(LOCK)
    env = os.environ | {"UV": str(UV), "UV_HTTP_RETRIES": "0", "NO_PROXY": "127.0.0.1"}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(tmp_path / ".ci" / "audit"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=env)  # noqa: S603 - ours

    return run


def test_a_known_vulnerability_fails_and_is_named(audit: Audit) -> None:
    with advisories(about="jinja2") as url:
        done = audit("--service-url", url)
    assert done.returncode == 1
    assert "jinja2" in done.stdout
    assert "OSV-TEST-1" in done.stdout
    assert "see the vulnerabilities above" in done.stderr


def test_nothing_known_passes_only_where_it_was_asked_about(audit: Audit) -> None:
    with advisories(about=None) as url:
        done = audit("--service-url", url)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "audit: no known vulnerability")


@pytest.mark.parametrize(("options", "code"), [([], 2), (["--if-reachable"], 0)])
def test_a_database_that_cannot_be_asked_is_never_taken_for_one_without_advisories(
    audit: Audit, options: list[str], code: int
) -> None:
    done = audit(*options, "--service-url", NOWHERE)
    assert done.returncode == code
    assert "NOTHING WAS CHECKED" in done.stderr
    assert "no known" not in done.stdout


def test_where_it_may_be_unreachable_a_vulnerability_still_fails(audit: Audit) -> None:
    with advisories(about="jinja2") as url:
        assert audit("--if-reachable", "--service-url", url).returncode == 1


@contextmanager
def advisories(about: str | None) -> Iterator[str]:
    """All versions of that package are vulnerable; nothing else is."""

    class Advisories(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["queries"]
            found = {"vulns": [{"id": "OSV-TEST-1", "modified": "2026-01-01T00:00:00Z"}]}
            self._answer({"results": [found if each["package"]["name"] == about else {} for each in asked]})

        def do_GET(self) -> None:
            package = {"ecosystem": "PyPI", "name": about}
            ranges = [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}]}]
            affected = [{"package": package, "ranges": ranges}]
            self._answer({"id": "OSV-TEST-1", "modified": "2026-01-01T00:00:00Z", "affected": affected})

        def log_message(self, *_: object) -> None:
            """Silent."""

        def _answer(self, value: object) -> None:
            body = json.dumps(value).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with HTTPServer(("127.0.0.1", 0), Advisories) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        serving.join()
