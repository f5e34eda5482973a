"""What a mailing may become, and what may be changed in it when.

scheduled ── its start ──► running ── all messages final, or the end ──► finished
│                      │    ▲  ▲                                            │
│                 pause▼    │resume                                         │
└── cancel ──►        paused  ── cancel ──► cancelled                       │
                               └── failed or unknown messages sent again ───┘
"""

from datetime import datetime
from enum import StrEnum

from mailing.errors import Conflict


class Status(StrEnum):
    scheduled = "scheduled"
    running = "running"
    paused = "paused"
    finished = "finished"
    cancelled = "cancelled"


OPEN = frozenset({Status.scheduled, Status.running, Status.paused})


def status_at_creation(starts_at: datetime, now: datetime) -> Status:
    return Status.running if starts_at <= now else Status.scheduled


def refuse_edit_of_closed(status: Status) -> None:
    if status not in OPEN:
        raise Conflict(f"A {status} mailing can't be changed any more; create a new one.")


def refuse_moved_start(status: Status, *, old: datetime, new: datetime) -> None:
    if status is not Status.scheduled and new != old:
        raise Conflict("starts_at can't be changed after the mailing has begun; leave it as it is.")


def after_pause(status: Status) -> Status:
    if status not in {Status.running, Status.paused}:
        raise Conflict(f"Only a running mailing can be paused; this one is {status}.")
    return Status.paused


def after_resume(status: Status) -> Status:
    if status not in {Status.running, Status.paused}:
        raise Conflict(f"Only a paused mailing can be resumed; this one is {status}.")
    return Status.running


def after_cancel(status: Status) -> Status:
    if status is Status.finished:
        raise Conflict("This mailing is finished; there is nothing left to cancel.")
    return Status.cancelled


def refuse_test(status: Status) -> None:
    if status is Status.cancelled:
        raise Conflict("A cancelled mailing sends nothing any more, no test either; create a new one.")


def refuse_sending_again(status: Status, *, ends_at: datetime, now: datetime) -> None:
    if status is Status.scheduled:
        raise Conflict("This mailing has not begun, so there is nothing to send again; wait for its start.")
    if status is Status.cancelled:
        raise Conflict("A cancelled mailing sends nothing any more; create a new one.")
    if now >= ends_at:
        raise Conflict("This mailing's end has passed; create a new one for those whom it did not reach.")


def after_sending_again(status: Status) -> Status:
    return Status.paused if status is Status.paused else Status.running
