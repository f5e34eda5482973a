"""Deadlines of calls. All calls share one timer: a timer for each cost 7 µs a call with uvloop."""

import asyncio
from collections.abc import Awaitable
from types import TracebackType
from typing import Self

from mailing.database.monotonic import ticks


class Deadlines:
    """The deadlines of the calls under way, and one timer for the earliest. It stays set even if its call has ended."""

    def __init__(self) -> None:
        self.running: set[Deadline] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = float("inf")

    def add(self, deadline: "Deadline") -> None:
        """Expire the deadline in time, unless it is removed before. Add it again if its time becomes earlier."""
        self.running.add(deadline)
        if deadline.expires_at < self._timer_at:
            self._set_timer(deadline.expires_at)

    def remove(self, deadline: "Deadline") -> None:
        self.running.discard(deadline)

    def close(self) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer, self._timer_at = None, float("inf")

    def _set_timer(self, at: float) -> None:
        self.close()
        self._timer_at = at
        self._timer = asyncio.get_running_loop().call_later(max(0.0, at - ticks()), self._expire)

    def _expire(self) -> None:
        self.close()
        now = ticks()
        for deadline in [each for each in self.running if each.expires_at <= now]:
            self.running.remove(deadline)
            deadline.expire()
        if self.running:
            self._set_timer(min(each.expires_at for each in self.running))


class Deadline:
    """Bounds a call by the timeout and by its message's end. `before_send` is bounded by the message's end alone.

    The block of `with` raises TimeoutError when it is over. It is `asyncio.timeout` with a timer that calls share.
    """

    def __init__(self, deadlines: Deadlines, *, timeout_s: float, time_left_s: float) -> None:
        self.allowed_s = min(timeout_s, time_left_s)
        self.suspended = False  # during `before_send`
        self._deadlines = deadlines
        self._expired = False
        now = ticks()
        self._end = now + time_left_s
        self._deadline = now + self.allowed_s

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a deadline must be entered in a task")
        self._task, self._cancelled_before = task, task.cancelling()
        self._deadlines.add(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._deadlines.remove(self)
        if self._expired and self._task.uncancel() <= self._cancelled_before and kind is asyncio.CancelledError:
            raise TimeoutError from error

    @property
    def expires_at(self) -> float:
        return self._end if self.suspended else self._deadline

    @property
    def remaining_s(self) -> float:
        return self._deadline - ticks()

    @property
    def message_end_in_s(self) -> float:
        return self._end - ticks()

    async def suspend_for(self, permission: Awaitable[bool]) -> bool:
        """Wait for the permission, at most until the message's end, and extend the call's deadline by that time."""
        asked_at, self.suspended = ticks(), True
        permitted = await permission
        self.suspended = False
        self._deadline = min(self._deadline + ticks() - asked_at, self._end)
        self._deadlines.add(self)
        return permitted

    def expire(self) -> None:
        self._expired = True
        self._task.cancel()
