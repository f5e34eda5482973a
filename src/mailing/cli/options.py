"""Options and texts that several commands have. It loads nothing but click, because `mailing --help` does."""

import click


def example(line: str) -> str:
    """Format the example at the end of a command's help."""
    return f"\b\nExample:\n  {line}"


class Seconds(click.FloatRange):
    """0 to 3600. Every comparison with NaN is false, so `FloatRange` takes it."""

    def __init__(self) -> None:
        super().__init__(0, 3600)

    def convert(self, value: float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        seconds = float(super().convert(value, param, ctx))
        return seconds if seconds >= 0 else self.fail(f"{value!r} is not a number of seconds", param, ctx)


def _end_with_parent(_context: click.Context, _option: click.Parameter, supervised: bool) -> None:
    if supervised:
        from mailing.process.supervisor import exit_with_parent  # noqa: PLC0415 - only a child needs it

        exit_with_parent()


# end when the process that holds our standard input ends
supervised = click.option("--supervised", is_flag=True, hidden=True, expose_value=False, callback=_end_with_parent)
waiting = click.option(
    "--wait",
    "wait_s",
    type=Seconds(),
    default=0.0,
    help="Seconds to wait for the database and its schema. By default the command fails at once.",
)
