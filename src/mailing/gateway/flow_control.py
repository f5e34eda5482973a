"""One worker's side of the flow control that all workers share: rate limit, circuit breaker, pauses, stops.

A worker asks for admission before a claim, and waits for a slot right before a call's first byte. It collects the
results of its calls and reports them every half second, or at once if they matter to the other workers.
"""

import asyncio
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final, assert_never

import msgspec
from msgspec.structs import replace

from mailing.database.clock import DatabaseClock
from mailing.database.engine import Sessions, autocommit
from mailing.database.monotonic import Ticks, ticks
from mailing.gateway import circuit_breaker
from mailing.gateway.circuit_breaker import CallStats, close_breaker, report, take_probe
from mailing.gateway.outcome import Answer, Outcome
from mailing.gateway.rate_limiter import MAX_AHEAD_S, RateLimiter, take_slots
from mailing.gateway.repository import GatewayState, read
from mailing.observability import failures
from mailing.observability.log import get
from mailing.reasons.codes import words_of

logger = get(__name__)

REPORT_EVERY_S: Final = 0.5
MAX_STATE_AGE_S: Final = 1.0  # a claim checks the row itself; this bounds how long a new rate goes unnoticed
DEFAULT_PAUSE_S: Final = 1.0  # for a gateway that asks for a pause and doesn't say how long
MAX_INLINE_WAIT: Final = timedelta(seconds=2)  # a shorter pause is waited for instead of enqueueing a job
NO_CALLS: Final = CallStats()


class Permit(msgspec.Struct, frozen=True):
    """`count` messages may be claimed. `probe`: only the call that tests the gateway while the breaker is open."""

    count: int
    probe: bool = False


class Blocked(msgspec.Struct, frozen=True):
    """Nothing may be sent. `until` is None where only an operator can change that."""

    until: datetime | None


class FlowControl:
    """`run` works beside the calls. All other methods raise what the database raises."""

    def __init__(self, sessions: Sessions, ticks: Ticks = ticks) -> None:
        self._sessions = sessions
        self._ticks = ticks
        self._state: GatewayState  # read by the first `refresh`, before anything else
        self._was_open = False  # the breaker
        self._read_at = float("-inf")
        self._unreported = NO_CALLS
        self._reporting: list[CallStats] = []  # on its way to the other workers
        self._probe_succeeded = False
        self._report_now = asyncio.Event()
        self._limiter = RateLimiter(ticks)
        self._fetching = asyncio.Lock()

    async def admit(self, most: int) -> Permit | Blocked:
        """Wait for slots, and for the end of a pause up to MAX_INLINE_WAIT. Return how much may be claimed."""
        if self._ticks() - self._read_at > MAX_STATE_AGE_S or self._report_now.is_set():
            await self.refresh()
        state, now = self._state, self._limiter.now()
        if state.stopped_at or state.restored:
            return Blocked(None)
        if state.paused_until and state.paused_until > now:
            if state.paused_until - now > MAX_INLINE_WAIT:
                return Blocked(state.paused_until)
            await asyncio.sleep((state.paused_until - now).total_seconds())
            return await self.admit(most)
        if state.breaker_opened_at:
            return await self._admit_probe(state, most)
        return Permit(most if not state.rate else await self._available_slots(most))

    def reserve(self, message_id: int) -> None:
        """Reserve a slot for a claimed message, which then waits for it or is released."""
        self._limiter.reserved.add(message_id)

    def release(self, message_id: int) -> None:
        self._limiter.reserved.discard(message_id)

    def may_call(self, *, probe: bool) -> bool:
        """Whether a call may begin, as far as this worker knows.

        Results of its own calls count at once, for probes too, before the other workers know of them.
        """
        state = self._state
        for stats in (self._unreported, *self._reporting):
            if stats.misconfigured or stats.pause_s:
                return False
        if state.stopped_at or state.restored or (state.breaker_opened_at and not probe):
            return False
        return state.paused_until is None or state.paused_until <= self._limiter.now()

    def instant(self, local: float) -> datetime:
        """Return the database time of a `ticks` reading, consistent between batches to the best round trip."""
        return self._limiter.instant(local)

    @property
    def is_limited(self) -> bool:
        return self._state.rate > 0

    async def wait_for_slot(self, message_id: int) -> None:
        """Return when the message's call may begin: no second holds more calls of all workers than the rate."""
        while self._state.rate:
            self._limiter.reserved.add(message_id)
            slot = self._limiter.next()
            if slot is None:
                await self._fetch_slots(0)
                continue
            self._limiter.reserved.discard(message_id)
            await asyncio.sleep(slot - self._ticks())
            if self._ticks() <= slot + self._limiter.tolerance_s:
                return

    def record(self, answer: Answer, *, probe: bool) -> None:
        match answer.outcome:
            case Outcome.throttled:
                stats = CallStats(pause_s=DEFAULT_PAUSE_S if answer.retry_after_s is None else answer.retry_after_s)
            case Outcome.not_sent | Outcome.ambiguous:
                stats = CallStats(calls=1, failed=1, reason=answer.full_reason)
            case Outcome.configuration:
                stats = CallStats(calls=1, failed=1, reason=answer.full_reason, misconfigured=True)
            case Outcome.accepted | Outcome.refused | Outcome.soft_refusal:
                stats = CallStats(calls=1)
                self._probe_succeeded |= probe
            case _:
                assert_never(answer.outcome)
        self._unreported = _merged(self._unreported, stats)
        if stats.pause_s or stats.misconfigured or probe:
            self._report_now.set()

    async def run(self) -> None:
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._report_now.wait(), REPORT_EVERY_S)
            if self._unreported == NO_CALLS and not self._report_now.is_set():
                continue
            try:
                await self.refresh()
            except Exception as error:  # noqa: BLE001 - logged
                failures.log(logger, "gateway report failed", error)
                await asyncio.sleep(REPORT_EVERY_S)

    async def refresh(self) -> None:
        """Report the results of calls, and read the state that all workers share."""
        stats, probe_succeeded = self._unreported, self._probe_succeeded
        self._unreported, self._probe_succeeded = NO_CALLS, False
        self._report_now.clear()
        self._reporting.append(stats)
        try:
            await self._report_and_read(stats, probe_succeeded=probe_succeeded)
        except BaseException:
            self._unreported, self._probe_succeeded = (
                _merged(stats, self._unreported),
                self._probe_succeeded or probe_succeeded,
            )
            raise
        finally:
            self._reporting.remove(stats)

    async def return_probe(self) -> None:
        async with autocommit(self._sessions) as session:
            await circuit_breaker.return_probe(session)

    async def _report_and_read(self, stats: CallStats, *, probe_succeeded: bool) -> None:
        async with autocommit(self._sessions) as session:
            if stats != NO_CALLS:
                await report(session, stats)
            if probe_succeeded:
                await close_breaker(session)
            at = self._ticks()
            state = await read(session)
        self._limiter.observe_clock(DatabaseClock(state.now, at, self._ticks))
        if at > self._read_at:  # a newer reading may have been answered before
            self._log_change(state)
            self._state, self._read_at = state, at

    async def _admit_probe(self, state: GatewayState, most: int) -> Permit | Blocked:
        if state.breaker_next_probe_at and state.breaker_next_probe_at > self._limiter.now():
            return Blocked(state.breaker_next_probe_at)
        async with autocommit(self._sessions) as session:
            if await take_probe(session):
                return Permit(1, probe=True)
        await self.refresh()  # another worker was faster, or the breaker has closed
        return await self.admit(most)

    async def _available_slots(self, most: int) -> int:
        """Wait until a slot is available. Return `most` if the limit was lifted meanwhile."""
        while self._state.rate:
            if (free := self._limiter.available()) > 0:
                return min(most, free)
            await self._fetch_slots(most)
        return most

    async def _fetch_slots(self, wanted: int) -> None:
        """Get slots for `wanted` messages and the reserved ones, or wait a moment until some are free."""
        async with self._fetching:
            missing = wanted - self._limiter.available()
            if missing <= 0:
                return
            async with autocommit(self._sessions) as session:
                at = self._ticks()
                grant = await take_slots(session, missing)
            if grant:
                self._limiter.observe_clock(DatabaseClock(grant.now, at, self._ticks))
                self._limiter.add(grant)
                return
            await asyncio.sleep(MAX_AHEAD_S / 20)
            await self.refresh()

    def _log_change(self, state: GatewayState) -> None:
        is_open = state.breaker_opened_at is not None
        if is_open and not self._was_open:
            reason, next_probe_at = words_of(state.breaker_reason), str(state.breaker_next_probe_at)
            logger.warning("breaker opened", reason=reason, next_probe_at=next_probe_at)
        if self._was_open and not is_open:
            logger.info("breaker closed")
        self._was_open = is_open


def _merged(earlier: CallStats, later: CallStats) -> CallStats:
    return replace(
        earlier,
        calls=earlier.calls + later.calls,
        failed=earlier.failed + later.failed,
        reason=later.reason or earlier.reason,
        misconfigured=earlier.misconfigured or later.misconfigured,
        pause_s=max(earlier.pause_s, later.pause_s),
    )
