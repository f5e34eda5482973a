"""What a run leaves behind: what happened, what was seen, what the checker found."""

import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from msgspec import Struct, field

from chaos.checker.duplicates import Accounting
from chaos.checker.facts import Action, Violation
from chaos.runner.campaign import MARK
from chaos.runner.environment import KEY, TOKEN
from chaos.runner.fault_player import Happened
from chaos.runner.observer import Seen
from chaos.runner.supervisor import End, Kill
from chaos.runner.timeline import Event, Trial

SECRET: Final = re.compile(rf"\b7916\d{{7}}\b|{MARK}|{KEY}|{TOKEN}")


class Record(Struct, kw_only=True):
    """`left` and `open_orders` are events that the run was over for; `beginnings` are the calls at the gateway.

    `locked` are the messages whose rows somebody had locked, `late_s` how long after its answer a result was written
    down meanwhile. `accounting` says what was accepted more than once, and why.
    """

    trial: Trial
    seed: int
    timeline: list[Event]
    left: list[Event]
    open_orders: list[Event]
    happened: list[Happened]
    kills: list[Kill]
    ends: list[End]
    actions: list[Action]
    locked: list[int]
    seen: Seen
    took_s: float = 0.0
    beginnings: list[datetime] = field(default_factory=list)
    violations: list[Violation] = field(default_factory=list)
    accounting: Accounting | None = None
    late_s: list[float] = field(default_factory=list)
    leaks: int = 0


def leaks(logs: Sequence[Path]) -> int:
    """Lines with a phone, a text or a secret in them."""
    return sum(bool(SECRET.search(line)) for log in logs for line in log.read_text(errors="replace").splitlines())
