"""The states of a mailing, its transitions, and which changes each state allows.

draft ── release ──► scheduled ── its start ──► running ── all messages final, or the end ──► finished
  ▲                      │                     │    ▲  ▲                                            │
  └── editor's change ───┘                pause▼    │resume                                         │
                                          paused    └── failed or unknown messages sent again ──────┘
any but finished ── cancel ──► cancelled

A release covers everything that decides what is sent: text, times, local hours, filter. An editor, who may not send,
can't start a mailing and can't change one that has started; an editor's change to a scheduled mailing withdraws its
release. Only a release turns a draft into a scheduled mailing; a change never does.
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

NOT_STARTED = frozenset({MailingStatus.draft, MailingStatus.scheduled})
OPEN = NOT_STARTED | {MailingStatus.running, MailingStatus.paused}


def released_status(starts_at: datetime, now: datetime) -> MailingStatus:
    return MailingStatus.running if starts_at <= now else MailingStatus.scheduled


def ensure_releasable(status: MailingStatus, *, ends_at: datetime, now: datetime) -> None:
    if status not in OPEN:
        raise Conflict(f"A {status} mailing can't be released; create a new one.")
    if status is MailingStatus.draft and now >= ends_at:
        raise Conflict("The end of this draft has passed, so nothing would be sent. Set a later end, then release it.")


def ensure_revision(revision: int, *, read: int | None) -> None:
    """Raise Conflict if the caller read another revision. `read` is that revision; None accepts any."""
    if read is not None and read != revision:
        raise Conflict("The mailing was changed after you read it. Read it again, then release it.")


def ensure_editor_may_change(status: MailingStatus) -> None:
    if status not in NOT_STARTED:
        raise Forbidden("Only a sender can change a mailing that has started.")


def ensure_editor_may_end(status: MailingStatus) -> None:
    if status is not MailingStatus.draft:
        raise Forbidden("Only a sender can cancel or delete a mailing that was released.")


def ensure_editable(status: MailingStatus) -> None:
    if status not in OPEN:
        raise Conflict(f"A {status} mailing can't be changed; create a new one.")


def ensure_start_unmoved(status: MailingStatus, *, old: datetime, new: datetime) -> None:
    if status not in NOT_STARTED and new != old:
        raise Conflict("starts_at can't be changed after the mailing has started; leave it as it is.")


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
        raise Conflict("A finished mailing has nothing left to cancel.")
    return MailingStatus.cancelled


def ensure_testable(status: MailingStatus) -> None:
    if status is MailingStatus.cancelled:
        raise Conflict("A cancelled mailing can't be tested; create a new one.")


def ensure_resendable(status: MailingStatus, *, ends_at: datetime, now: datetime) -> None:
    if status in NOT_STARTED:
        raise Conflict("This mailing has not started, so there is nothing to send again; wait for its start.")
    if status is MailingStatus.cancelled:
        raise Conflict("A cancelled mailing can't send again; create a new one.")
    if now >= ends_at:
        raise Conflict("The end of this mailing has passed; create a new one for the clients it did not reach.")


def reopened_status(status: MailingStatus) -> MailingStatus:
    return MailingStatus.paused if status is MailingStatus.paused else MailingStatus.running
