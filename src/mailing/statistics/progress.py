"""How far a mailing is, how fast it goes, when it will be done, and what its messages wait for."""

from datetime import datetime, timedelta

from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.gateway.repository import GatewayState, read
from mailing.mailings.models import Mailing
from mailing.mailings.states import OPEN, MailingStatus
from mailing.statistics import repository
from mailing.statistics.backlog import BacklogItem, due, postponed, waiting_for_window
from mailing.statistics.schemas import MailingLine
from mailing.statistics.throughput import sent_in_last_minute


class Progress(Struct, frozen=True):
    """`per_minute` went out within the last minute, about. `done_at` is when none will be left at this pace, None
    where nobody can say. `planning`: recipients are still being selected.
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


async def progress_of(session: AsyncSession, mailing: Mailing) -> Progress:
    """The same handful of index probes for a mailing of any size."""
    counts = await repository.mailing_line(session, mailing.id)
    state = await read(session)
    waits = await backlog_of(session, mailing, counts.pending, state)
    per_minute = await sent_in_last_minute(session, mailing.id) if mailing.status in OPEN else 0
    moving = mailing.status == MailingStatus.running and not is_held(state)
    return Progress(
        counts,
        gateway=state,
        planning=mailing.status in OPEN and mailing.started_at is not None and is_planning(mailing),
        per_minute=per_minute,
        done_at=estimate_done_at(counts.pending + counts.sending, per_minute, waits, now=state.now) if moving else None,
        backlog=waits,
    )


def is_planning(mailing: Mailing) -> bool:
    return mailing.planned_revision < mailing.plan_revision


def is_held(state: GatewayState) -> bool:
    return state.restored or state.stopped_at is not None


def estimate_done_at(left: int, per_minute: int, waits: list[BacklogItem], *, now: datetime) -> datetime | None:
    """Not before the last opening. None without a pace."""
    if not left or not per_minute:
        return None
    at_this_pace = now + timedelta(minutes=left / per_minute)
    return max([at_this_pace, *(wait.until for wait in waits if wait.until)])


async def backlog_of(session: AsyncSession, mailing: Mailing, pending: int, state: GatewayState) -> list[BacklogItem]:
    """What keeps its pending messages from going out at this moment: what can be waited for soonest first."""
    if mailing.status == MailingStatus.draft:
        return [BacklogItem("release", pending)]
    if mailing.status == MailingStatus.scheduled:
        return [BacklogItem("start", pending, mailing.starts_at)]
    if mailing.status not in OPEN or not pending:
        return []
    if mailing.status == MailingStatus.paused or is_held(state):
        return [BacklogItem("pause", pending)]
    return [
        *await due(session, mailing.id, state),
        *await postponed(session, mailing.id),
        *await waiting_for_window(session, mailing.id),
    ]
