"""Recheck claimed messages before their calls: a message that was withdrawn since its claim is not called."""

import asyncio
from collections.abc import Iterable

from mailing.database.clock import DatabaseClock
from mailing.database.engine import autocommit
from mailing.messages.claim import ClaimedMessage, still_allowed
from mailing.observability import failures
from mailing.observability.log import get
from mailing.sending.context import SendContext

logger = get(__name__)

RECHECK_EVERY_S = 0.5
MAX_CHECK_AGE_S = 1.0  # of the newest check of a message, and of the clock reading, for a call to begin
RECORDING_S = 5.0  # of each lease, kept for recording
MIN_CALL_S = 0.2  # a call cut off by the end leaves the message unknown, so a call that has hardly any time is not made


class Revalidator:
    """Tracks the claimed messages of a process that are not called yet. Notices pause, cancel, edit, opt-out, stop and
    an open breaker.

    `run` works beside the calls, for all mailings together: one statement each time, however many messages wait.
    """

    def __init__(self, context: SendContext) -> None:
        self._context = context
        self._tracked: dict[int, ClaimedMessage] = {}
        self._rechecked: set[int] = set()  # by the newest recheck
        self._withdrawn: set[int] = set()
        self._clock: DatabaseClock | None = None  # read by the newest recheck

    def track(self, messages: Iterable[ClaimedMessage]) -> None:
        for message in messages:
            self._tracked[message.id] = message
            self._context.flow_control.reserve(message.id)

    def untrack(self, message: ClaimedMessage) -> None:
        """Stop tracking: the call has ended or was abandoned."""
        self._tracked.pop(message.id, None)
        self._rechecked.discard(message.id)
        self._withdrawn.discard(message.id)
        self._context.flow_control.release(message.id)

    def time_left_s(self, message: ClaimedMessage, clock: DatabaseClock) -> float:
        """Return how long a call may take. 0: something has changed since the claim that forbids it, or it is too late.

        `clock` was read with the claim. A process that stood still finds every check older than MAX_CHECK_AGE_S, and
        rechecks before it goes on.
        """
        now, latest = self._context.ticks(), self._latest_clock(clock)
        checked_at = latest.at if message.id in self._rechecked else clock.at
        left_s = latest.at_local(message.closes_at) - now
        allowed = (
            message.id not in self._withdrawn
            and not self._context.stopping.is_set()
            and self._context.flow_control.may_call(probe=message.probe)
            and now - checked_at <= MAX_CHECK_AGE_S
            and clock.at + self._context.lease_s - RECORDING_S - now >= self._context.timeout_s
            and left_s >= MIN_CALL_S
        )
        return left_s if allowed else 0.0

    def _latest_clock(self, clock: DatabaseClock) -> DatabaseClock:
        return self._clock if self._clock and self._clock.at > clock.at else clock

    async def run(self) -> None:
        """Recheck until cancelled. No message is called while the recheck fails, so no failure ends it."""
        while True:
            await asyncio.sleep(RECHECK_EVERY_S)
            try:
                if self._tracked:
                    await self.recheck()
            except Exception as error:  # noqa: BLE001 - logged
                failures.log(logger, "recheck failed", error, messages=len(self._tracked))

    async def recheck(self) -> None:
        at, tracked = self._context.ticks(), dict(self._tracked)
        probes = [message.id for message in tracked.values() if message.probe]
        async with autocommit(self._context.urgent) as session:
            allowed, read = await still_allowed(session, list(tracked), probes=probes, lease_s=self._context.lease_s)
        self._rechecked = tracked.keys() & self._tracked.keys()
        self._withdrawn = self._rechecked - allowed
        if read:
            self._clock = DatabaseClock(read, at, self._context.ticks)
