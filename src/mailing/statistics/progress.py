"""The progress of a mailing: counts, throughput, estimated end, and what its messages wait for."""

from datetime import datetime, timedelta

from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.gateway.repository import GatewayState, read
from mailing.mailings.models import Mailing
from mailing.mailings.states import OPEN, MailingStatus
from mailing.messages.states import WaitReason
from mailing.statistics import repository
from mailing.statistics.backlog import BacklogItem, due, postponed, waiting_for_window
from mailing.statistics.schemas import MailingLine
from mailing.statistics.throughput import sent_in_last_minute


class Progress(Struct, frozen=True):
    """Progress of a mailing. `planning`: recipients are still being selected.

    `per_minute`: messages sent in the last minute, about. `done_at`: when the last one is sent at this rate; None if
    that can't be estimated.
    """

    counts: MailingLine
    gateway: GatewayState
    planning: bool
    per_minute: int
    done_at: datetime | None
    backlog: list[BacklogItem]

    @property
    def left(self) -> int:
        return self.counts.pending + self.counts.sending


async def progress_of(session: AsyncSession, mailing: Mailing, *, receipts: bool = False) -> Progress:
    """Read the progress: the same few index probes for a mailing of any size. `receipts`: the provider sends them."""
    counts = await repository.mailing_line(session, mailing.id, receipts=receipts)
    state = await read(session)
    backlog = await backlog_of(session, mailing, counts.pending, state)
    per_minute = await sent_in_last_minute(session, mailing.id) if mailing.status in OPEN else 0
    sending = mailing.status == MailingStatus.running and not is_held(state)
    is_outdated = mailing.planned_revision < mailing.plan_revision
    return Progress(
        counts,
        gateway=state,
        planning=mailing.status in OPEN and mailing.started_at is not None and is_outdated,
        per_minute=per_minute,
        done_at=estimate_done_at(counts.pending + counts.sending, per_minute, backlog, now=state.now)
        if sending
        else None,
        backlog=backlog,
    )


def is_held(state: GatewayState) -> bool:
    return state.restored or state.stopped_at is not None


def estimate_done_at(left: int, per_minute: int, backlog: list[BacklogItem], *, now: datetime) -> datetime | None:
    """Estimate the end from the throughput, not before the last window opens. None without throughput."""
    if not left or not per_minute:
        return None
    at_this_rate = now + timedelta(minutes=left / per_minute)
    return max([at_this_rate, *(item.until for item in backlog if item.until)])


async def backlog_of(session: AsyncSession, mailing: Mailing, pending: int, state: GatewayState) -> list[BacklogItem]:
    """List what keeps pending messages from being sent now; items that end by themselves first, soonest first."""
    if mailing.status == MailingStatus.draft:
        return [BacklogItem("release", pending)]
    if mailing.status == MailingStatus.scheduled:
        return [BacklogItem(WaitReason.start, pending, mailing.starts_at)]
    if mailing.status not in OPEN or not pending:
        return []
    if mailing.status == MailingStatus.paused or is_held(state):
        return [BacklogItem(WaitReason.pause, pending)]
    return [
        *await due(session, mailing.id, state),
        *await postponed(session, mailing.id),
        *await waiting_for_window(session, mailing.id),
    ]
