"""Shared state of the send jobs of one worker process."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from mailing.database.engine import Sessions
from mailing.database.monotonic import Ticks, ticks
from mailing.gateway.client import GatewayClient
from mailing.gateway.flow_control import FlowControl
from mailing.messages.leases import RetryPolicy, lease_for
from mailing.observability.counters import WorkerCounters
from mailing.sending.call_slots import CallSlots
from mailing.sending.claim_budget import ClaimBudget
from mailing.sending.recording import ResultRecorder

SLICE_S = 10.0
SHORT_SLICE_S = 3.0
MAX_POSTPONED_PER_S = 8


@dataclass
class SendContext:
    """`active_mailings` are being sent by this process now, each by one job; `max_jobs` bounds them. A mailing in
    `woken` was enqueued again meanwhile.

    `urgent` is a pool of its own for flow control and revalidation, so claims and records can't exhaust it.
    `on_claimed` gets each claim that was acknowledged, before any of its messages is called. `is_settled` is false
    right after an outage of the database.
    """

    sessions: Sessions
    urgent: Sessions
    gateway: GatewayClient
    flow_control: FlowControl
    policy: RetryPolicy
    timeout_s: float
    max_jobs: int
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    active_mailings: set[int] = field(default_factory=set)
    woken: set[int] = field(default_factory=set)
    counters: WorkerCounters = field(default_factory=WorkerCounters)
    ticks: Ticks = ticks
    on_claimed: Callable[[Iterable[tuple[int, int]]], None] = lambda _: None
    is_settled: Callable[[], bool] = lambda: True

    def __post_init__(self) -> None:
        self.lease_s = lease_for(self.timeout_s)
        self.claim_budget = ClaimBudget(self.gateway.concurrency)
        self.call_slots = CallSlots(self.gateway.concurrency)
        self.recorder = ResultRecorder(
            self.sessions, self.counters, self.stopping, on_recorded=self.claim_budget.remove_unrecorded
        )
        self.admission = asyncio.Lock()  # one job asks flow control at a time; the others find the state fresh

    @property
    def should_yield(self) -> bool:
        """Whether all jobs are taken, or all but the last: then a mailing yields after a short slice."""
        return len(self.active_mailings) >= self.max_jobs - 1

    @property
    def slice_s(self) -> float:
        """How long a mailing is sent before the others have their turn."""
        return SHORT_SLICE_S if self.should_yield else SLICE_S

    @property
    def postponed_lane_s(self) -> float:
        """The delay of a lane that this process can't take: at most MAX_POSTPONED_PER_S lanes come back a second."""
        return max(1.0, len(self.active_mailings) / MAX_POSTPONED_PER_S)
