"""The other side of `bench.children`: what a party's process says and hears."""

import json
import sys
from collections.abc import Callable
from typing import Any


def values() -> dict[str, Any]:
    """What the harness gave."""
    return dict(json.loads(sys.argv[1]))


def follow(work: Callable[[], dict[str, Any] | None]) -> None:
    """Says that it is ready, works when told to, says that it is done, and stays until it is let go.

    Nobody measures what a process takes to start or to end.
    """
    ready()
    done(work())


def ready() -> None:
    """Returns when told to go."""
    print("ready", flush=True)
    if not sys.stdin.readline():
        sys.exit(1)


def done(told: dict[str, Any] | None = None) -> None:
    print("done", json.dumps(told or {}), flush=True)
    sys.stdin.read()
