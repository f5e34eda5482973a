"""Describe the machine on which the figures were measured."""

import os
import platform
import subprocess
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import psycopg

from bench.children import program
from bench.lab import SETTINGS, Lab

PACKAGES = (
    *("aiohttp", "asyncpg", "celery", "fastapi", "litestar", "msgspec", "pgqueuer", "procrastinate", "psycopg"),
    *("redis", "requests", "sqlalchemy", "uvicorn", "uvloop"),
)


def describe(lab: Lab) -> dict[str, str]:
    with psycopg.connect(lab.cluster.url) as connection:
        row = connection.execute("SHOW server_version").fetchone()
    return {
        "machine": f"{os.cpu_count()} cores, {_processor()}, {_memory_gb():.0f} GB",
        "system": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        "PostgreSQL": f"{row[0] if row else '?'}, {lab.cluster.kind}; {', '.join(SETTINGS)}",
        "packages": ", ".join(f"{name} {version(name)}" for name in PACKAGES if find_spec(name)),
        "programs": ", ".join(filter(None, (_first_line(*command) for command in _PROGRAMS))),
        "commit": _first_line("git", "describe", "--always", "--dirty") or "unknown",
    }


_PROGRAMS = (("nginx", "-v"), ("redis-server", "--version"), ("wrk", "-v"))


def _first_line(name: str, *options: str) -> str:
    path = program(name)
    if path is None:
        return ""
    printed = subprocess.run([path, *options], capture_output=True, text=True, check=False)
    return (printed.stdout + printed.stderr).strip().splitlines()[0]


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _memory_gb() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
