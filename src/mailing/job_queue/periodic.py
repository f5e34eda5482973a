"""Periodic jobs that no step of a clock holds back.

What is due is told by the database's clock, how long to wait for it by the monotonic one; the worker's own clock is
asked by nobody. Procrastinate's own ticks go by that, and after it went back an hour there is none for an hour. Which
of several workers enqueues a tick is decided by `procrastinate_periodic_defers`, as with Procrastinate's.
"""

import asyncio
import json
from contextlib import suppress
from typing import Any, Final

from procrastinate import BaseConnector
from procrastinate.exceptions import ConnectorException
from procrastinate.periodic import PeriodicTask
from procrastinate.tasks import Task

TOO_LATE_S: Final = 600  # a tick that long ago is left out
LONGEST_S: Final = 30  # between two looks at the database's clock: it may have stepped
AGAIN_S: Final = 1  # after the database did not answer

_NOW = "SELECT extract(epoch FROM clock_timestamp())::float8 AS now"
# A queued twin makes the tick unnecessary; without asking, it would stand in the server's error log.
_DEFER = """
    SELECT procrastinate_defer_periodic_job_v2(%(queue)s, %(lock)s, %(queueing_lock)s, %(task)s, %(priority)s, '',
        %(due)s, %(args)s::jsonb)
    WHERE NOT EXISTS (SELECT FROM procrastinate_jobs WHERE queueing_lock = %(queueing_lock)s AND status = 'todo')
"""


Periodic = PeriodicTask[Any, Any, Any]


class Ticks:
    """`connector` must be open while they run."""

    def __init__(self, connector: BaseConnector) -> None:
        self._connector = connector
        self._tasks: list[Periodic] = []
        self._last: dict[str, int] = {}  # by the task's name

    def add(self, task: Task[Any, Any, Any], cron: str) -> None:
        self._tasks.append(PeriodicTask(task=task, cron=cron, periodic_id="", configure_kwargs={}))

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            wait_s: float = AGAIN_S
            with suppress(ConnectorException, TimeoutError):
                wait_s = await self._tick()
            await asyncio.sleep(min(wait_s, LONGEST_S))

    async def _tick(self) -> float:
        """Enqueues what is due; returns the seconds until something is."""
        now: float = (await self._connector.execute_query_one_async(_NOW))["now"]
        for each in self._tasks:
            due = int(each.croniter.get_prev(float, start_time=now + 0.001))
            if due != self._last.get(each.task.name) and now - due < TOO_LATE_S:
                await self._defer(each.task, due)
            self._last[each.task.name] = due
        return min((each.croniter.get_next(float, start_time=now) - now for each in self._tasks), default=LONGEST_S)

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
