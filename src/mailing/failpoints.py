"""Failpoints: named places at which a fault test may end the process. Disabled, they cost an empty function call."""

from collections.abc import Callable
from typing import Final

FAILPOINTS: Final = {
    "claim.before": "nothing claimed yet",
    "claim.inside": "claimed, not committed",
    "claim.after": "committed, no call started",
    "call.connected": "connected, nothing written",
    "call.written": "request written, no answer",
    "call.head_read": "status read, body not",
    "call.answered": "answer read, nothing recorded",
    "record.after": "committed, the job continues",
    "plan.inside": "a slice planned, not committed",
    "plan.after": "a slice committed, the plan incomplete",
    "sweep.inside": "leases reclaimed, not committed",
    "report.accepted": "accepted by the mail server, not recorded",
    "stop.draining": "asked to stop, calls still running",
}


def _nothing(_point: str) -> None:
    pass


_handler: Callable[[str], None] = _nothing


def hit(point: str) -> None:
    _handler(point)


def enable(handler: Callable[[str], None]) -> None:
    """Call `handler` with the name of each failpoint that is hit. For fault tests only."""
    global _handler  # noqa: PLW0603 - one handler for the process, set before it starts
    _handler = handler
