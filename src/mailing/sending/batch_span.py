"""The calls of one claimed batch, together in a trace: a span for each of a million messages would be no help."""

from collections import Counter

from mailing.database.clock import DatabaseClock
from mailing.observability import tracing


class BatchSpan:
    """From the claim until the last of `messages` is dealt with. `clock` was read with the claim."""

    def __init__(self, messages: int, clock: DatabaseClock) -> None:
        self.clock = clock
        self._left = messages
        self._counts = Counter(messages=messages)
        self._span = tracing.begin("calls")

    def answered(self, outcome: str) -> None:
        self._counts[outcome] += 1

    def one_less(self) -> None:
        """However it ended."""
        self._left -= 1
        if not self._left:
            self._span.set(**self._counts)
            self._span.end()
