"""What a mailing may become, and what may be changed in it when.

draft ── release ──► scheduled ── its start ──► running ── all messages final, or the end ──► finished
  ▲                      │                     │    ▲  ▲                                            │
  └── editor's change ───┘                pause▼    │resume                                         │
                                          paused    └── failed or unknown messages sent again ──────┘
every one but a finished one ── cancel ──► cancelled

A release is of everything that decides what is sent: text, times, local hours, filter. Whoever may not send can't start
a mailing, and can't change one that has begun; a change of theirs to a scheduled one withdraws its release. Nothing but
a release leads out of a draft, no change does.
"""

from datetime import datetime
from enum import StrEnum

from mailing.errors import Conflict, Forbidden


class MailingStatus(StrEnum):
    draft = "draft"
    scheduled = "scheduled"
    running = "running"
    paused = "paused"
    finished = "finished"
    cancelled = "cancelled"


MAX_REVISION = 2**31 - 1  # an integer of PostgreSQL

NOT_STARTED = frozenset({MailingStatus.draft, MailingStatus.scheduled})  # not begun
OPEN = NOT_STARTED | {MailingStatus.running, MailingStatus.paused}


def released_status(starts_at: datetime, now: datetime) -> MailingStatus:
    return MailingStatus.running if starts_at <= now else MailingStatus.scheduled


def ensure_releasable(status: MailingStatus, *, ends_at: datetime, now: datetime) -> None:
    if status not in OPEN:
        raise Conflict(f"A {status} mailing can't be released any more; create a new one.")
    if status is MailingStatus.draft and now >= ends_at:
        raise Conflict("This draft's end has passed, so nothing would be sent; set a later end, then release it.")


def ensure_revision(revision: int, *, read: int | None) -> None:
    """`read` is the revision that the caller decided about; None: whatever it is now."""
    if read is not None and read != revision:
        raise Conflict("The mailing was changed after you read it; read it again, then release what it is now.")


def ensure_editor_may_change(status: MailingStatus) -> None:
    if status not in NOT_STARTED:
        raise Forbidden("A mailing that has begun is changed by a sender.")


def ensure_editor_may_end(status: MailingStatus) -> None:
    if status is not MailingStatus.draft:
        raise Forbidden("A mailing that was released is cancelled or deleted by a sender.")


def ensure_editable(status: MailingStatus) -> None:
    if status not in OPEN:
        raise Conflict(f"A {status} mailing can't be changed any more; create a new one.")


def ensure_start_unmoved(status: MailingStatus, *, old: datetime, new: datetime) -> None:
    if status not in NOT_STARTED and new != old:
        raise Conflict("starts_at can't be changed after the mailing has begun; leave it as it is.")


def paused_status(status: MailingStatus) -> MailingStatus:
    if status not in {MailingStatus.running, MailingStatus.paused}:
        raise Conflict(f"Only a running mailing can be paused; this one is {status}.")
    return MailingStatus.paused


def resumed_status(status: MailingStatus) -> MailingStatus:
    if status not in {MailingStatus.running, MailingStatus.paused}:
        raise Conflict(f"Only a paused mailing can be resumed; this one is {status}.")
    return MailingStatus.running


def cancelled_status(status: MailingStatus) -> MailingStatus:
    if status is MailingStatus.finished:
        raise Conflict("This mailing is finished; there is nothing left to cancel.")
    return MailingStatus.cancelled


def ensure_testable(status: MailingStatus) -> None:
    if status is MailingStatus.cancelled:
        raise Conflict("A cancelled mailing sends nothing any more, no test either; create a new one.")


def ensure_resendable(status: MailingStatus, *, ends_at: datetime, now: datetime) -> None:
    if status in NOT_STARTED:
        raise Conflict("This mailing has not begun, so there is nothing to send again; wait for its start.")
    if status is MailingStatus.cancelled:
        raise Conflict("A cancelled mailing sends nothing any more; create a new one.")
    if now >= ends_at:
        raise Conflict("This mailing's end has passed; create a new one for those whom it did not reach.")


def reopened_status(status: MailingStatus) -> MailingStatus:
    return MailingStatus.paused if status is MailingStatus.paused else MailingStatus.running
