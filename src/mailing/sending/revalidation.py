"""Claimed messages that are not called yet, and whether they still may be."""

import asyncio
from collections.abc import Iterable

from mailing.database.clock import DatabaseClock
from mailing.gateway.repository import autocommit
from mailing.messages.claim import ClaimedMessage, still_allowed
from mailing.observability import failures
from mailing.observability.log import get
from mailing.sending.context import SendContext

logger = get(__name__)

RECHECK_EVERY_S = 0.5
MAX_CHECK_AGE_S = 1.0  # a message checked longer ago than this is not called, nor by an older reading of the clock
SPARE_LEASE_S = 5.0  # of each lease, for recording
MIN_CALL_S = 0.2  # a call cut off by the end leaves a message unknown: rather none than one without a chance


class Revalidator:
    """Of one process. Pause, cancel, edit, opt-out, stop, breaker: what was withdrawn since its claim is not called.

    `keep` runs beside the calls, for all mailings together: one statement each time, however many there are.
    """

    def __init__(self, desk: SendContext) -> None:
        self._desk = desk
        self._waiting: dict[int, ClaimedMessage] = {}
        self._looked_at: set[int] = set()  # by the newest look
        self._withdrawn: set[int] = set()
        self._clock: DatabaseClock | None = None  # as of the newest look

    def add(self, messages: Iterable[ClaimedMessage]) -> None:
        for message in messages:
            self._waiting[message.id] = message
            self._desk.gate.owe(message.id)

    def remove(self, message: ClaimedMessage) -> None:
        """It is called now, or will not be."""
        self._waiting.pop(message.id, None)
        self._looked_at.discard(message.id)
        self._withdrawn.discard(message.id)
        self._desk.gate.let_go(message.id)

    def allows(self, message: ClaimedMessage, clock: DatabaseClock) -> bool:
        """Everything that may have changed since the claim. `clock` was read with the claim.

        A process that stood still, whoever stopped it, finds everything STALE, and looks before it goes on.
        """
        now, newest = self._desk.ticks(), self._newest(clock)
        checked_at = newest.at if message.id in self._looked_at else clock.at
        return (
            message.id not in self._withdrawn
            and not self._desk.stopping.is_set()
            and self._desk.gate.is_open(probe=message.probe)
            and now - checked_at <= MAX_CHECK_AGE_S
            and clock.at + self._desk.lease_s - SPARE_LEASE_S - now >= self._desk.timeout_s
            and newest.at_local(message.closes_at) - now >= MIN_CALL_S
        )

    def time_left_s(self, message: ClaimedMessage, clock: DatabaseClock) -> float:
        return self._newest(clock).at_local(message.closes_at) - self._desk.ticks()

    def _newest(self, clock: DatabaseClock) -> DatabaseClock:
        return self._clock if self._clock and self._clock.at > clock.at else clock

    async def keep(self) -> None:
        """Until cancelled. Nothing is called while it fails, so it goes on whatever happens."""
        while True:
            await asyncio.sleep(RECHECK_EVERY_S)
            try:
                if self._waiting:
                    await self.look()
            except Exception:
                logger.exception("recheck failed", messages=len(self._waiting))

    async def look(self) -> None:
        at, waiting = self._desk.ticks(), dict(self._waiting)
        try:
            async with autocommit(self._desk.urgent) as session:
                probes = [message.id for message in waiting.values() if message.probe]
                allowed, read = await still_allowed(session, list(waiting), probes=probes, lease_s=self._desk.lease_s)
        except Exception as error:  # noqa: BLE001 - told; nothing is called that was not looked at
            failures.log(logger, "recheck failed", error, messages=len(waiting))
            return
        self._looked_at = waiting.keys() & self._waiting.keys()
        self._withdrawn = self._looked_at - allowed
        if read:
            self._clock = DatabaseClock(read, at, self._desk.ticks)
