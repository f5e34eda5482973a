"""One claimed message on its way to the gateway."""

from collections.abc import Awaitable

from mailing.database.clock import DatabaseClock
from mailing.database.errors import transient
from mailing.messages.claim import ClaimedMessage
from mailing.messages.results import NOT_CALLED, Called, NotCalled
from mailing.observability.counters import RATE_LIMIT_WAIT_S
from mailing.sending.context import SendContext
from mailing.sending.revalidation import Revalidator

# Tolerated beyond the call's deadline. No call takes so long in a process that runs. A process that was frozen finds
# all its calls overdue, and that says nothing about the gateway.
MAX_OVERRUN_S = 5.0


class Attempt:
    """One call. Permission is checked before a connection is asked for, and again once the connection is ready."""

    def __init__(
        self, context: SendContext, revalidator: Revalidator, message: ClaimedMessage, clock: DatabaseClock
    ) -> None:
        self._context = context
        self._revalidator = revalidator
        self._message = message
        self._clock = clock
        self._started = context.ticks()

    async def make(self, text: str) -> Called | NotCalled:
        """NotCalled: nothing was written, because the message was withdrawn, it is too late, sending is stopped, or
        this machine cannot connect.
        """
        message = self._message
        time_left_s = self._revalidator.time_left_s(message, self._clock)
        if not time_left_s:
            return NOT_CALLED
        answer = await self._context.gateway.send(
            message.id,
            phone=message.phone,
            text=text,
            time_left_s=time_left_s,
            refusals=message.soft_refusals,
            before_send=self._before_send,
        )
        if answer is None:
            return NOT_CALLED
        duration_s = self._context.ticks() - self._started
        if duration_s <= self._context.timeout_s + MAX_OVERRUN_S:
            self._context.flow_control.record(answer, probe=message.probe)
            self._context.counters.observe_call(answer.outcome, duration_s)
        # not by the clock reading of the claim, which is off by the claim's round trip
        started_at = self._context.flow_control.instant(self._started)
        return Called(answer, started_at=started_at, duration_ms=int(duration_s * 1000))

    def _before_send(self) -> bool | Awaitable[bool]:
        return self._begin_with_slot() if self._context.flow_control.is_limited else self._begin()

    async def _begin_with_slot(self) -> bool:
        """Wait for a slot of the rate limit. Without the database there are no slots, and this call is not made."""
        waiting_since = self._context.ticks()
        try:
            await self._context.flow_control.wait_for_slot(self._message.id)
        except transient():
            return False
        self._context.counters.add(RATE_LIMIT_WAIT_S, "call", value=self._context.ticks() - waiting_since)
        return self._begin()

    def _begin(self) -> bool:
        self._started = self._context.ticks()
        return self._revalidator.time_left_s(self._message, self._clock) > 0
