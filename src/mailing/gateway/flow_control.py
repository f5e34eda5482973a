"""One worker's side of the flow control that all workers share: rate limit, circuit breaker, pauses, stops.

A worker asks for admission before a claim, and waits for a slot right before a call's first byte. It collects the
results of its calls and reports them every half second, or at once if they matter to the other workers.
"""

import asyncio
from datetime import datetime, timedelta
from typing import Final, assert_never

import msgspec
from msgspec.structs import replace

from mailing.database.clock import DatabaseClock
from mailing.database.engine import Sessions
from mailing.database.monotonic import Ticks, ticks
from mailing.gateway import circuit_breaker
from mailing.gateway.circuit_breaker import CallStats, close_breaker, report, take_probe
from mailing.gateway.outcome import Answer, Outcome
from mailing.gateway.rate_limiter import MAX_AHEAD_S, RateLimiter, take_slots
from mailing.gateway.repository import GatewayState, autocommit, read
from mailing.observability import failures
from mailing.observability.log import get

logger = get(__name__)

REPORT_EVERY_S: Final = 0.5
MAX_STATE_AGE_S: Final = 1.0  # a claim reads the row itself; this bounds the delay until a new rate is noticed
PAUSE_S: Final = 1.0  # for a gateway that asks for a pause without a duration
MAX_INLINE_WAIT: Final = timedelta(seconds=2)  # a pause this short is not worth a job of its own
NOTHING: Final = CallStats()


class Permit(msgspec.Struct, frozen=True):
    """How many messages may be claimed. `probe`: the one call by which an open breaker tests the gateway."""

    count: int
    probe: bool = False


class Blocked(msgspec.Struct, frozen=True):
    """Nothing may be sent. `until` is None if only an operator can end it."""

    until: datetime | None


class FlowControl:
    """`run` it beside the calls. All other methods raise the errors of the database."""

    def __init__(self, sessions: Sessions, ticks: Ticks = ticks) -> None:
        self._sessions = sessions
        self._ticks = ticks
        self._state: GatewayState | None = None
        self._read_at = float("-inf")
        self._seen = NOTHING
        self._reporting: list[CallStats] = []  # not yet reported to the other workers
        self._probe_worked = False
        self._urgent = asyncio.Event()
        self._slots = RateLimiter(ticks)
        self._granting = asyncio.Lock()

    async def admit(self, most: int) -> Permit | Blocked:
        """Admit up to `most` messages, waiting for slots and short pauses but not for long ones."""
        if self._ticks() - self._read_at > MAX_STATE_AGE_S or self._urgent.is_set():
            await self.refresh()
        state, now = self._known, self._slots.now()
        if state.stopped_at or state.restored:
            return Blocked(None)
        if state.paused_until and state.paused_until > now:
            if state.paused_until - now > MAX_INLINE_WAIT:
                return Blocked(state.paused_until)
            await asyncio.sleep((state.paused_until - now).total_seconds())
            return await self.admit(most)
        if state.breaker_opened_at:
            return await self._ask_open(state, most)
        return Permit(most if not state.rate else await self._free_slots(most))

    def reserve(self, message_id: int) -> None:
        """Reserve a slot for a claimed message. It will wait for its slot or be released."""
        self._slots.owed.add(message_id)

    def release(self, message_id: int) -> None:
        self._slots.owed.discard(message_id)

    def may_call(self, *, probe: bool) -> bool:
        """Whether a call may be made, as far as this worker knows. Its own results count before they are reported."""
        state = self._known
        if any(heard.misconfigured or heard.pause_s for heard in (self._seen, *self._reporting)):
            return False
        if state.stopped_at or state.restored or (state.breaker_opened_at and not probe):
            return False
        return state.paused_until is None or state.paused_until <= self._slots.now()

    def instant(self, local: float) -> datetime:
        """Database time of a `ticks` reading. Consistent between calls of different batches, to the best round trip."""
        return self._slots.instant(local)

    async def wait_for_slot(self, message_id: int) -> None:
        """Wait until a message's call may start, so that all workers together keep the rate in every second."""
        while self._known.rate:
            slot = self._slots.pop()
            if slot is None:
                await self._grant(0)
                continue
            self._slots.owed.discard(message_id)
            await asyncio.sleep(slot - self._ticks())
            if self._ticks() <= slot + self._slots.late_s:
                return
            self._slots.owed.add(message_id)

    def record(self, answer: Answer, *, probe: bool) -> None:
        """Record the result of a call."""
        match answer.outcome:
            case Outcome.throttled:
                seen = CallStats(pause_s=PAUSE_S if answer.retry_after_s is None else answer.retry_after_s)
            case Outcome.not_sent | Outcome.ambiguous:
                seen = CallStats(calls=1, failed=1, reason=answer.reason)
            case Outcome.configuration:
                seen = CallStats(calls=1, failed=1, reason=answer.reason, misconfigured=True)
            case Outcome.accepted | Outcome.refused | Outcome.soft_refusal:
                seen = CallStats(calls=1)
                self._probe_worked |= probe
            case _:
                assert_never(answer.outcome)
        self._seen = _both(self._seen, seen)
        if seen.pause_s or seen.misconfigured or probe:
            self._urgent.set()

    async def run(self) -> None:
        """Report results whenever there are any, until cancelled."""
        while True:
            await _happens(self._urgent, within_s=REPORT_EVERY_S)
            if self._seen == NOTHING and not self._urgent.is_set():
                continue
            try:
                await self.refresh()
            except Exception as error:  # noqa: BLE001 - logged
                failures.log(logger, "report on the gateway failed", error)
                await asyncio.sleep(REPORT_EVERY_S)

    async def refresh(self) -> None:
        """Report the results and read the state shared by all workers."""
        seen, worked = self._seen, self._probe_worked
        self._seen, self._probe_worked = NOTHING, False
        self._urgent.clear()
        self._reporting.append(seen)
        try:
            await self._exchange(seen, probe_worked=worked)
        except BaseException:
            self._seen, self._probe_worked = _both(seen, self._seen), self._probe_worked or worked
            raise
        finally:
            self._reporting.remove(seen)

    async def return_probe(self) -> None:
        """Return a probe that found nothing to send."""
        async with autocommit(self._sessions) as session:
            await circuit_breaker.return_probe(session)

    async def _exchange(self, seen: CallStats, *, probe_worked: bool) -> None:
        async with autocommit(self._sessions) as session:
            if seen != NOTHING:
                await report(session, seen)
            if probe_worked:
                await close_breaker(session)
            at = self._ticks()
            state = await read(session)
        self._slots.hear(DatabaseClock(state.now, at, self._ticks))
        _log_change(self._state, state)
        self._state, self._read_at = state, at

    async def _ask_open(self, state: GatewayState, most: int) -> Permit | Blocked:
        if state.breaker_next_probe_at and state.breaker_next_probe_at > self._slots.now():
            return Blocked(state.breaker_next_probe_at)
        async with autocommit(self._sessions) as session:
            if await take_probe(session):
                return Permit(1, probe=True)
        await self.refresh()  # another worker was faster, or the breaker has closed
        return await self.admit(most)

    async def _free_slots(self, most: int) -> int:
        """Return the number of free slots, `most` if the limit was removed meanwhile."""
        while self._known.rate:
            if (free := self._slots.free()) > 0:
                return min(most, free)
            await self._grant(most)
        return most

    async def _grant(self, wanted: int) -> None:
        """Take slots for `wanted` messages beyond the reserved ones, or wait briefly until some are free."""
        async with self._granting:
            missing = wanted - self._slots.free()
            if missing <= 0:
                return
            async with autocommit(self._sessions) as session:
                at = self._ticks()
                granted = await take_slots(session, missing)
            if granted:
                self._slots.hear(DatabaseClock(granted.now, at, self._ticks))
                self._slots.add(granted)
                return
            await asyncio.sleep(MAX_AHEAD_S / 20)
            await self.refresh()

    @property
    def _known(self) -> GatewayState:
        if self._state is None:
            raise RuntimeError("the flow_control is passed before it was asked")
        return self._state


def _log_change(was: GatewayState | None, now: GatewayState) -> None:
    was_open = was is not None and was.breaker_opened_at is not None
    if now.breaker_opened_at and not was_open:
        logger.warning("breaker open", reason=now.breaker_reason, next_probe_at=str(now.breaker_next_probe_at))
    if was_open and not now.breaker_opened_at:
        logger.info("breaker closed")


def _both(earlier: CallStats, later: CallStats) -> CallStats:
    return replace(
        earlier,
        calls=earlier.calls + later.calls,
        failed=earlier.failed + later.failed,
        reason=later.reason or earlier.reason,
        misconfigured=earlier.misconfigured or later.misconfigured,
        pause_s=max(earlier.pause_s, later.pause_s),
    )


async def _happens(event: asyncio.Event, *, within_s: float) -> None:
    try:
        await asyncio.wait_for(event.wait(), within_s)
    except TimeoutError:
        return
