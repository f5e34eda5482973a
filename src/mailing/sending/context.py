"""Shared state of the send jobs of one worker process."""

import asyncio
from dataclasses import dataclass, field

from mailing.database.engine import Sessions
from mailing.database.monotonic import Ticks, ticks
from mailing.gateway.client import GatewayClient
from mailing.gateway.flow_control import FlowControl
from mailing.messages.leases import lease_for
from mailing.observability.counters import WorkerCounters
from mailing.sending.call_slots import CallSlots
from mailing.sending.claim_budget import ClaimBudget
from mailing.sending.recording import Recording
from mailing.sending.retry_policy import RetryPolicy

SLICE_S = 10.0
CROWDED_SLICE_S = 3.0
MOST_PASSED_ON = 8


@dataclass
class SendContext:
    """`active` are the mailings this process is sending just now, each by one job; `jobs` is how many it may run.
    Those `again` were woken meanwhile.

    `urgent` has connections that no claim and no record can take: for what decides whether calls go on.
    """

    sessions: Sessions
    urgent: Sessions
    gateway: GatewayClient
    gate: FlowControl
    policy: RetryPolicy
    timeout_s: float
    jobs: int
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    active: set[int] = field(default_factory=set)
    again: set[int] = field(default_factory=set)
    tallies: WorkerCounters = field(default_factory=WorkerCounters)
    ticks: Ticks = ticks

    def __post_init__(self) -> None:
        self.lease_s = lease_for(self.timeout_s)
        self.capacity = ClaimBudget(self.gateway.concurrency)
        self.slots = CallSlots(self.gateway.concurrency)
        self.recording = Recording(self.sessions, self.tallies, self.stopping, settled=self.capacity.settled)
        self.asking = asyncio.Lock()  # one asks the gate for all that come meanwhile

    @property
    def crowded(self) -> bool:
        """All places are taken, or the last one is being given away: yield after a short slice."""
        return len(self.active) >= self.jobs - 1

    @property
    def slice_s(self) -> float:
        """How long a mailing is sent before others have their turn."""
        return CROWDED_SLICE_S if self.crowded else SLICE_S

    @property
    def passed_on_s(self) -> float:
        """How long a lane waits that this process can't take: MOST_PASSED_ON a second, however many there are."""
        return max(1.0, len(self.active) / MOST_PASSED_ON)
