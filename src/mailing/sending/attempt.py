"""One claimed message on its way to the gateway."""

from datetime import datetime

from mailing.database.clock import DatabaseClock
from mailing.database.errors import transient
from mailing.gateway.outcome import Answer
from mailing.messages.claim import ClaimedMessage
from mailing.observability.counters import RATE_LIMIT_WAIT_S
from mailing.sending.context import SendContext
from mailing.sending.revalidation import Revalidator

# Beyond its deadline: no call takes so long in a process that runs. One that was frozen finds all its calls overdue,
# and that says nothing about the gateway.
OVERDUE_S = 5.0


class Attempt:
    """Whether it may be made is asked before a connection is, and once more when there is one."""

    def __init__(self, desk: SendContext, watch: Revalidator, message: ClaimedMessage, clock: DatabaseClock) -> None:
        self._began_at = desk.ticks()
        self._desk = desk
        self._watch = watch
        self._message = message
        self._clock = clock

    @property
    def started_at(self) -> datetime:
        """Database time. Not by the clock reading of the claim, which is off by the claim's round trip."""
        return self._desk.gate.instant(self._began_at)

    @property
    def lasted_s(self) -> float:
        return self._desk.ticks() - self._began_at

    async def make(self, text: str) -> Answer | None:
        """None: it was withdrawn, too late, or sending is stopped, and not a byte was written."""
        message = self._message
        if not self._watch.allows(message, self._clock):
            return None
        left_s = self._watch.time_left_s(message, self._clock)
        answer = await self._desk.gateway.send(
            message.id, phone=message.phone, text=text, time_left_s=left_s, begin=self._begin
        )
        lasted_s = self.lasted_s
        if answer and lasted_s <= self._desk.timeout_s + OVERDUE_S:
            self._desk.gate.tell(answer, probe=message.probe)
            self._desk.tallies.observe_call(answer.outcome, lasted_s)
        return answer

    async def _begin(self) -> bool:
        """Without the database nobody can say whose turn it is; the other calls go on."""
        waits_since = self._desk.ticks()
        try:
            await self._desk.gate.turn(self._message.id)
        except transient():
            return False
        self._began_at = self._desk.ticks()
        self._desk.tallies.add(RATE_LIMIT_WAIT_S, "call", value=self._began_at - waits_since)
        return self._watch.allows(self._message, self._clock)
