"""Backups of a whole cluster, with a server of their own: files copied back, and a new timeline."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from mailing import db, embedded
from mailing.restoration.lookout import looking_out
from rows import run, value

pytestmark = pytest.mark.xdist_group("embedded")

RESTORED = "SELECT home <> database_home() FROM gateway"


class Cluster:
    """A data directory whose server is started and stopped, and a copy of it made while it was stopped."""

    def __init__(self, home: Path) -> None:
        self.data = home / "data"
        self._copy = home / "copy"

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        server = await asyncio.to_thread(embedded.start, self.data)
        try:
            yield server.url
        finally:
            await asyncio.to_thread(server.stop)

    def copy(self) -> None:
        shutil.copytree(self.data, self._copy, symlinks=True, copy_function=_with_owner)
        _own_directories(self.data, self._copy)

    def put_copy_back(self) -> None:
        shutil.rmtree(self.data)
        self._copy.rename(self.data)
