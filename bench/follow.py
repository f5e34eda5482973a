"""The other side of `bench.children`: the protocol in a measured process."""

import json
import sys
from collections.abc import Callable
from typing import Any


def values() -> dict[str, Any]:
    """Read the values that the harness passed."""
    return dict(json.loads(sys.argv[1]))


def follow(work: Callable[[], dict[str, Any] | None]) -> None:
    """Report ready, work on command, report done, and wait for the end of the input.

    So the time to start and to end a process is not measured.
    """
    ready()
    done(work())


def ready() -> None:
    """Report ready and wait for the command to start."""
    print("ready", flush=True)
    if not sys.stdin.readline():
        sys.exit(1)


def done(result: dict[str, Any] | None = None) -> None:
    print("done", json.dumps(result or {}), flush=True)
    sys.stdin.read()
