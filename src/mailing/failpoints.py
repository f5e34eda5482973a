"""Named places at which a test may end the process. Without one they cost a call of an empty function.

claim.before      nothing is claimed yet             record.inside    outcomes written, not committed
claim.inside      claimed, not committed             record.after     committed, the job goes on
claim.after       committed, no call begun           plan.inside      a slice planned, not committed
call.connected    connected, nothing written         plan.after       a slice committed, the plan not complete
call.written      handed on, no answer               sweep.inside     repaired, not committed
call.head_read    status read, body not              report.accepted  the mail server took it, not recorded
call.answered     answer read, nothing recorded      stop.draining    asked to stop, calls still under way
"""

from collections.abc import Callable
from typing import Final

POINTS: Final = (
    "claim.before",
    "claim.inside",
    "claim.after",
    "call.connected",
    "call.written",
    "call.head_read",
    "call.answered",
    "record.inside",
    "record.after",
    "plan.inside",
    "plan.after",
    "sweep.inside",
    "report.accepted",
    "stop.draining",
)


def _nothing(_point: str) -> None:
    pass


_reached: Callable[[str], None] = _nothing


def hit(point: str) -> None:
    _reached(point)


def enable(handler: Callable[[str], None]) -> None:
    """For the fault tests alone: `handler` is told each point by name, as it is reached."""
    global _reached  # noqa: PLW0603 - one hook for the process, set before it begins
    _reached = handler
