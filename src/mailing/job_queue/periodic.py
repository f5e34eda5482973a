"""Periodic jobs that survive steps of the clock.

The database's clock decides which jobs are due; the monotonic clock measures the wait. Procrastinate's own scheduler
uses the worker's wall clock: after that went back an hour, nothing would run for an hour.
`procrastinate_periodic_defers` decides which of several workers enqueues a tick, as it does for Procrastinate.
"""

import asyncio
import json
from contextlib import suppress
from typing import Any, Final

from procrastinate import BaseConnector
from procrastinate.exceptions import ConnectorException
from procrastinate.periodic import PeriodicTask
from procrastinate.tasks import Task

MAX_LATENESS_S: Final = 600  # older ticks are skipped
MAX_WAIT_S: Final = 30  # between two readings of the database's clock: it may step
RETRY_S: Final = 1  # after an error of the database

_NOW = "SELECT extract(epoch FROM clock_timestamp())::float8 AS now"
# A queued duplicate makes the tick unnecessary. NOT EXISTS keeps it out of the server's error log.
_DEFER = """
    SELECT procrastinate_defer_periodic_job_v2(%(queue)s, %(lock)s, %(queueing_lock)s, %(task)s, %(priority)s, '',
        %(due)s, %(args)s::jsonb)
    WHERE NOT EXISTS (SELECT FROM procrastinate_jobs WHERE queueing_lock = %(queueing_lock)s AND status = 'todo')
"""


Periodic = PeriodicTask[Any, Any, Any]


class PeriodicScheduler:
    """Enqueue periodic jobs. `connector` must be open while it runs."""

    def __init__(self, connector: BaseConnector) -> None:
        self._connector = connector
        self._tasks: list[Periodic] = []
        self._last: dict[str, int] = {}  # by the task's name

    def add(self, task: Task[Any, Any, Any], cron: str) -> None:
        self._tasks.append(PeriodicTask(task=task, cron=cron, periodic_id="", configure_kwargs={}))

    async def run(self) -> None:
        while True:
            wait_s: float = RETRY_S
            with suppress(ConnectorException, TimeoutError):
                wait_s = await self._tick()
            await asyncio.sleep(min(wait_s, MAX_WAIT_S))

    async def _tick(self) -> float:
        """Enqueue what is due. Return the seconds until the next tick."""
        now: float = (await self._connector.execute_query_one_async(_NOW))["now"]
        for each in self._tasks:
            due = int(each.croniter.get_prev(float, start_time=now + 0.001))
            if due != self._last.get(each.task.name) and now - due < MAX_LATENESS_S:
                await self._defer(each.task, due)
            self._last[each.task.name] = due
        return min((each.croniter.get_next(float, start_time=now) - now for each in self._tasks), default=MAX_WAIT_S)

    async def _defer(self, task: Task[Any, Any, Any], due: int) -> None:
        await self._connector.execute_query_all_async(
            _DEFER,
            task=task.name,
            queue=task.queue,
            lock=task.lock,
            queueing_lock=task.queueing_lock,
            priority=task.priority,
            due=due,
            args=json.dumps({"timestamp": due}),
        )
