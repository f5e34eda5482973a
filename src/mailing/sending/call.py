"""One claimed message on its way to the gateway."""

import time
from datetime import datetime

from mailing.db import DatabaseClock
from mailing.gateway.outcome import Answer
from mailing.messages.repository import Claimed
from mailing.sending.desk import Desk
from mailing.sending.watch import Watch, time_left_s
from mailing.tallies import GATE_SECONDS


class Call:
    """Whether it may be made is asked before a connection is, and once more when there is one."""

    def __init__(self, desk: Desk, watch: Watch, message: Claimed, clock: DatabaseClock) -> None:
        self.started_at: datetime = clock.now()
        self._desk = desk
        self._watch = watch
        self._message = message
        self._clock = clock

    @property
    def duration_ms(self) -> int:
        return int((self._clock.now() - self.started_at).total_seconds() * 1000)

    async def make(self, text: str) -> Answer | None:
        """None: it was withdrawn, too late, or sending is stopped, and not a byte was written."""
        message = self._message
        if not self._watch.allows(message, self._clock):
            return None
        left_s = time_left_s(message, self._clock)
        answer = await self._desk.gateway.send(
            message.id, phone=message.phone, text=text, time_left_s=left_s, begin=self._begin
        )
        if answer:
            self._desk.gate.tell(answer, probe=message.probe)
            self._desk.tallies.called(answer.outcome, self.duration_ms / 1000)
        return answer

    async def _begin(self) -> bool:
        waits_since = time.monotonic()
        await self._desk.gate.turn(self._message.id)
        self._desk.tallies.add(GATE_SECONDS, "call", value=time.monotonic() - waits_since)
        self.started_at = self._clock.now()
        return self._watch.allows(self._message, self._clock)
