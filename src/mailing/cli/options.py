"""Options and texts that several commands have. It loads nothing but click, because `mailing --help` does."""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import click

T = TypeVar("T")


def example(line: str) -> str:
    """Format the example at the end of a command's help."""
    return f"\b\nExample:\n  {line}"


def supervised(command: Callable[..., T]) -> Callable[..., T]:
    """Add `--supervised`: end when the process that holds our standard input ends."""

    @click.option("--supervised", is_flag=True, hidden=True)
    @wraps(command)
    def wrapped(*args: Any, supervised: bool, **kwargs: Any) -> T:  # noqa: ANN401 - whatever the command takes
        if supervised:
            from mailing.process.supervisor import exit_with_parent  # noqa: PLC0415 - only a child needs it

            exit_with_parent()
        return command(*args, **kwargs)

    return wrapped


waiting = click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(0, 3600),
    default=0.0,
    help="Seconds to wait for the database and its schema. By default the command fails at once.",
)
