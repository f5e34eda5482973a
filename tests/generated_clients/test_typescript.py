"""Clients in TypeScript, made by two generators and compiled without a complaint, run a mailing under Node."""

import json
import shutil
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from generated_clients.conftest import ALL_SMS, Service
from support import ROOT
from support.api import KEY
from support.generators import NODE_MODULES, needs, quietly, run
from support.openapi import operations

PROGRAMS = ROOT / "tests" / "generated_clients" / "typescript"
STRICT = (
    "--strict",
    "--skipLibCheck",
    "--noUncheckedIndexedAccess",
    "--target",
    "es2022",
    "--lib",
    "es2022,dom,dom.iterable",
)

pytestmark = pytest.mark.slow


@needs("openapi-typescript", "tsc", "node")
async def test_openapi_typescript_with_openapi_fetch(
    place: Path, document: dict[str, Any], service: Service, times: tuple[datetime, datetime]
) -> None:
    await quietly(["openapi-typescript", "openapi.json", "-o", "mailing.ts"], cwd=place)
    types = (place / "mailing.ts").read_text()
    for _, _, operation in operations(document):
        assert f'operations["{operation["operationId"]}"]' in types
    (place / "package.json").write_text('{"type": "module"}')
    await _compile("with_openapi_fetch.ts", "nodenext", cwd=place)
    await _runs_a_mailing("with_openapi_fetch.js", service, times, cwd=place)


@needs("openapi-ts", "tsc", "node")
async def test_hey_api(
    place: Path, document: dict[str, Any], service: Service, times: tuple[datetime, datetime]
) -> None:
    await quietly(["openapi-ts", "-i", "openapi.json", "-o", "mailing", "--no-log-file"], cwd=place)
    functions = (place / "mailing" / "sdk.gen.ts").read_text()
    for _, _, operation in operations(document):
        first, *others = operation["operationId"].split("_")
        assert f"export const {first}{''.join(map(str.capitalize, others))} =" in functions
    await _compile("with_hey_api.ts", "commonjs", cwd=place)
    await _runs_a_mailing("with_hey_api.js", service, times, cwd=place)


async def _compile(program: str, modules: str, *, cwd: Path) -> None:
    """Check the generated code too, but no library; write JavaScript beside it."""
    shutil.copy(PROGRAMS / program, cwd)
    if NODE_MODULES.is_dir():  # else node finds its packages where the system has them
        (cwd / "node_modules").symlink_to(NODE_MODULES)
    await quietly(["tsc", *STRICT, "--module", modules, program], cwd=cwd)


async def _runs_a_mailing(program: str, service: Service, times: tuple[datetime, datetime], *, cwd: Path) -> None:
    starts_at, ends_at = (moment.isoformat() for moment in times)
    printed = await run(["node", program, service.url, KEY, str(service.draft), starts_at, ends_at], cwd=cwd)
    assert json.loads(printed) == {"recipients": 2, "sent": [2, 2], "statuses": ["sent"] * 4, "missing": 404}
    assert await service.accepted() == ALL_SMS
