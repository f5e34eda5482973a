"""Command lines that stand in manifests and units."""

from collections.abc import Sequence

import click

from mailing.cli.main import cli


def require_known(arguments: Sequence[str]) -> None:
    """Fail unless this is a command of `mailing` with options and arguments that it has."""
    name, command, rest = cli.resolve_command(click.Context(cli), list(arguments))
    assert command is not None
    command.make_context(name, rest, parent=click.Context(cli)).close()
