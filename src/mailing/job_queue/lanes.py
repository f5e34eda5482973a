"""Fetch jobs with a concurrency limit for each queue.

Procrastinate's own worker has one limit for all its queues and takes jobs in the order they were enqueued, so long jobs
make all others wait. Here each queue has its own limit. A process is still one worker: one row of
`procrastinate_workers`, one connection that LISTENs.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

import procrastinate
from procrastinate.jobs import Job, Notification
from procrastinate.worker import Worker

from mailing.job_queue.periodic import PeriodicScheduler


class FetchingWorker(Worker):
    """`limits`: concurrent jobs of each queue. `scheduler` enqueues periodic jobs. `options` are Procrastinate's."""

    def __init__(
        self,
        app: procrastinate.App,
        limits: Mapping[str, int],
        scheduler: PeriodicScheduler,
        **options: Any,  # noqa: ANN401 - Procrastinate's
    ) -> None:
        super().__init__(app, queues=list(limits), **options)
        self._limits = limits
        self._scheduler = scheduler
        self._busy: Counter[str] = Counter()
        self._maybe_ready: set[str] = set()  # queues that may hold a job
        self._polled_at = float("-inf")

    async def _periodic_deferrer(self) -> None:
        """Run the scheduler as one of the tasks whose failure ends the worker.

        If it returned without an error, the other tasks would no longer be supervised.
        """
        await self._scheduler.run()

    async def _fetch_and_process_jobs(self) -> None:
        """Start jobs until no queue has one that its limit admits. Called again at each event, and to poll."""
        self._new_job_event.clear()
        self._poll_if_due()
        while not self._stop_event.is_set() and (open_queues := self._open_queues()):
            for queue in open_queues:
                await self._take(queue)

    async def _handle_notification(self, *, channel: str, notification: Notification) -> None:
        queue = channel.rpartition("#")[2]
        if queue in self._limits:
            self._maybe_ready.add(queue)
        await super()._handle_notification(channel=channel, notification=notification)

    def _poll_if_due(self) -> None:
        """Poll for scheduled jobs, which become due without a notification, and for lost notifications."""
        if time.monotonic() - self._polled_at >= self.fetch_job_polling_interval:
            self._polled_at = time.monotonic()
            self._maybe_ready.update(self._limits)

    def _open_queues(self) -> list[str]:
        return [
            queue for queue in self._limits if queue in self._maybe_ready and self._busy[queue] < self._limits[queue]
        ]

    async def _take(self, queue: str) -> None:
        self._maybe_ready.discard(queue)  # a notification during the fetch sets it again
        job = await self.app.job_manager.fetch_job(queues=[queue], worker_id=self.worker_id)  # type: ignore[arg-type] # set by then
        if job:
            self._maybe_ready.add(queue)
            self._begin(job, queue)

    def _begin(self, job: Job, queue: str) -> None:
        context = procrastinate.JobContext(
            app=self.app,
            worker_name=self.worker_name,
            worker_queues=self.queues,
            additional_context={},
            job=job,
            abort_reason=lambda: self._job_ids_to_abort.get(job.id) if job.id else None,
            start_timestamp=time.time(),
        )
        task = asyncio.create_task(self._process_job(context), name=f"job {job.task_name}[{job.id}]")
        self._running_jobs[task] = context
        self._busy[queue] += 1
        task.add_done_callback(lambda ended: self._end(ended, queue))

    def _end(self, task: asyncio.Task[Any], queue: str) -> None:
        del self._running_jobs[task]
        self._busy[queue] -= 1
        if queue in self._maybe_ready:
            self._new_job_event.set()
