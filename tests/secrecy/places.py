"""Where nothing secret may stand, looked at again and again while everything runs."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg

LOOK_EVERY_S = 0.2
JOBS = "SELECT concat_ws(' ', task_name, args, lock, queueing_lock) FROM procrastinate_jobs"
SESSIONS = """
    SELECT concat_ws(' ', application_name, query) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name LIKE 'mailing%'"""


@dataclass
class Seen:
    """By place, each thing once. `looks` is how often it was looked."""

    things: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    looks: int = 0

    @property
    def places(self) -> dict[str, str]:
        return {place: "\n".join(things) for place, things in self.things.items()}

    async def look(self, connection: asyncpg.Connection) -> None:
        self.things["job arguments"].update(row[0] for row in await connection.fetch(JOBS))
        self.things["statements of sessions"].update(row[0] for row in await connection.fetch(SESSIONS))
        self.things["command lines"].update(_command_lines())
        self.looks += 1


def _command_lines() -> set[str]:
    """And titles, which stand in the same place: PostgreSQL's name role and client."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            found.add((process / "cmdline").read_bytes().replace(b"\0", b" ").decode("latin-1"))
    return found


@asynccontextmanager
async def looking(url: str) -> AsyncIterator[Seen]:
    connection = await asyncpg.connect(url, server_settings={"application_name": "the test"})
    seen = Seen()

    async def look_on() -> None:
        while True:
            await seen.look(connection)
            await asyncio.sleep(LOOK_EVERY_S)

    looking = asyncio.create_task(look_on())
    try:
        yield seen
    finally:
        looking.cancel()
        with suppress(asyncio.CancelledError):
            await looking
        await connection.close()
