"""Generators of API clients: those that `make generators` installed, or those on PATH."""

import asyncio
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from support import ROOT

INSTALLED = ROOT / ".generators"
NODE_MODULES = INSTALLED / "node_modules"
PATH = os.pathsep.join([str(INSTALLED / "bin"), str(NODE_MODULES / ".bin"), os.environ["PATH"]])


def needs(*names: str) -> pytest.MarkDecorator:
    missing = [name for name in names if shutil.which(name, path=PATH) is None]
    return pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)}: make generators")


async def quietly(command: Sequence[str | Path], *, cwd: Path) -> str:
    """Run a generator or compiler, and fail at its first warning. Return what it printed."""
    printed = await run(command, cwd=cwd)
    assert not re.search(r"warn|error|deprecat|unsupported", printed, flags=re.IGNORECASE), printed
    return printed


async def run(command: Sequence[str | Path], *, cwd: Path) -> str:
    """Return what the program printed to both outputs. The event loop goes on, so it can call a service of the test."""
    process = await asyncio.create_subprocess_exec(
        *(str(shutil.which(command[0], path=PATH)), *command[1:]),
        cwd=cwd,
        env=os.environ | {"PATH": PATH, "NO_COLOR": "1"},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    printed = (await process.communicate())[0].decode()
    assert process.returncode == 0, printed
    return printed
