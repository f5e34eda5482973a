"""One trace span for all calls of a claimed batch: a span for each of a million messages would be no help."""

from collections import Counter

from mailing.database.clock import DatabaseClock
from mailing.observability import tracing


class BatchSpan:
    """A span from the claim until the last of `messages` is done. `clock` was read with the claim."""

    def __init__(self, messages: int, clock: DatabaseClock) -> None:
        self.clock = clock
        self._left = messages
        self._counts = Counter(messages=messages)
        self._span = tracing.begin("calls")

    def count_outcome(self, outcome: str) -> None:
        self._counts[outcome] += 1

    def finished_one(self) -> None:
        """Count one message as done, whether it was called or not. The last one ends the span."""
        self._left -= 1
        if not self._left:
            self._span.set(**self._counts)
            self._span.end()
