"""The gateway's state in requests and answers."""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta, Struct

from mailing.gateway.repository import GatewayState
from mailing.reasons.codes import ReasonCode, words_of

Rate = Annotated[
    float,
    Meta(
        ge=0,
        le=100_000,
        description="calls per second, all workers together, 0 to 100000; 0 means no limit",
        examples=[50],
    ),
]


class GatewayPatch(Struct):
    rate: Rate


class Breaker(Struct):
    """`open`: most calls failed, or the gateway refuses our address or token. One probe at a time tests it."""

    state: Literal["closed", "open"]
    since: datetime | None
    reason: str | None
    reason_code: ReasonCode | None
    next_probe_at: datetime | None


class Stop(Struct):
    at: datetime
    by: str


class Recent(Struct):
    """Calls of all workers in the last 30 s; `failed` are those without an answer or with an unusable one."""

    calls: int
    failed: int


class GatewayOut(Struct):
    """`sending`: only the rate delays messages.

    `restored`: the database was restored from a backup or a standby was promoted, and nothing is sent before
    `mailing resume-after-restore`. `restored_because`: why processes do not resume by themselves, as `newcomer`.
    """

    sending: bool
    rate: float
    throttled_until: datetime | None
    breaker: Breaker
    stopped: Stop | None
    restored: bool
    restored_because: list[str]
    last_30_s: Recent  # the circuit breaker's WINDOW_S

    @classmethod
    def of(cls, state: GatewayState) -> "GatewayOut":
        reason = state.breaker_reason
        held = state.paused_until or state.breaker_opened_at or state.stopped_at or state.restored
        return cls(
            sending=not held,
            rate=state.rate,
            throttled_until=state.paused_until,
            breaker=Breaker(
                "open" if state.breaker_opened_at else "closed",
                state.breaker_opened_at,
                words_of(reason) or None,
                reason.code if reason else None,
                state.breaker_next_probe_at,
            ),
            stopped=Stop(state.stopped_at, state.stopped_by or "") if state.stopped_at else None,
            restored=state.restored,
            restored_because=state.restored_because,
            last_30_s=Recent(state.calls, state.failed),
        )
