"""Which attempt of the database is which call of the gateway's ledger.

Both are in order, and an attempt makes one call at most; but an attempt may have made none (its worker was killed
before, or a reset took the request), so where there are more of them time decides.
"""

from collections.abc import Sequence
from functools import cache
from math import inf

from chaos.facts import Attempt, Call

UNPAIRED = 1e6  # seconds: worse than any difference in time


def paired(calls: Sequence[Call], attempts: Sequence[Attempt]) -> list[Attempt | None]:
    """For each call of one id, in order, the attempt that made it; None where there is none."""
    able = [attempt for attempt in attempts if not attempt.reached_nobody]
    if len(able) == len(calls):
        return list(able)

    @cache
    def best(call: int, attempt: int) -> tuple[float, tuple[Attempt | None, ...]]:
        """The cheapest pairs from here on; the first of equals."""
        if call == len(calls):
            return 0.0, ()
        if attempt == len(able):
            return UNPAIRED * (len(calls) - call), (None,) * (len(calls) - call)
        cost, rest = best(call + 1, attempt + 1)
        take = cost + _apart_s(calls[call], able[attempt]), (able[attempt], *rest)
        cost, rest = best(call + 1, attempt)
        leave = cost + UNPAIRED, (None, *rest)
        return min(take, best(call, attempt + 1), leave, key=lambda found: found[0])

    return list(best(0, 0)[1])


def _apart_s(call: Call, attempt: Attempt) -> float:
    """How far the call lies outside the attempt's time; one that was swept began any time before."""
    begin = -inf if attempt.duration_s is None else attempt.started_at
    end = attempt.started_at + (attempt.duration_s or 0.0)
    return max(begin - call.began_at, call.began_at - end, 0.0)
