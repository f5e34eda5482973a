"""Failpoints: named places at which a fault test may end the process. Disabled, they cost an empty function call.

claim.before      nothing claimed yet                record.inside    outcomes written, not committed
claim.inside      claimed, not committed             record.after     committed, the job continues
claim.after       committed, no call started         plan.inside      a slice planned, not committed
call.connected    connected, nothing written         plan.after       a slice committed, the plan incomplete
call.written      request written, no answer         sweep.inside     leases reclaimed, not committed
call.head_read    status read, body not              report.accepted  accepted by the mail server, not recorded
call.answered     answer read, nothing recorded      stop.draining    asked to stop, calls still running
"""

from collections.abc import Callable
from typing import Final

FAILPOINTS: Final = (
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


_handler: Callable[[str], None] = _nothing


def hit(point: str) -> None:
    _handler(point)


def enable(handler: Callable[[str], None]) -> None:
    """Call `handler` with the name of each failpoint that is hit. For fault tests only."""
    global _handler  # noqa: PLW0603 - one handler for the process, set before it starts
    _handler = handler
