"""The command line: `mailing --help`. A composition root.

Exit codes: 0 success, 1 failure, 2 wrong usage or settings. An error is one line on standard error.
"""

import os
import sys
from importlib import import_module
from io import TextIOWrapper

import click

from mailing.cli.options import example
from mailing.errors import ConfigurationError, MailingError

# Where each command is, and the first sentence of its help: `mailing --help` loads none of them.
COMMANDS = {
    "up": ("up:up", "Run API, worker, embedded PostgreSQL and sandbox gateway until Ctrl-C."),
    "demo": ("demo:demo", "Send one mailing to sample clients through a sandbox gateway, in a temporary database."),
    "migrate": ("migrate:migrate", "Upgrade the database schema, all revisions in one transaction."),
    "api": ("api:api", "Serve the API, its documentation, the admin page, health and metrics."),
    "worker": ("worker:worker", "Plan and send mailings, retry, report."),
    "sandbox": ("sandbox:sandbox", "Run a fake gateway that speaks a provider's API and shows what it accepted."),
    "import": ("clients:import_", "Import clients from a CSV file: phone,operator_code,tag,timezone,opted_out."),
    "export": ("clients:export", "Write all clients to standard output as CSV, in the format that `import` reads."),
    "report": ("report:report", "Send or print the report of one day."),
    "doctor": (
        "doctor:doctor",
        "Check configuration, database, schema, queue, gateway, mail and clock, and print what to do.",
    ),
    "resume-after-restore": (
        "resume_after_restore:resume_after_restore",
        "Enable sending from a database that was restored from a backup.",
    ),
    "user": ("users:user", "Manage the people who sign in to the admin page."),
    "key": ("keys:key", "Manage keys for the API."),
    "privacy": ("privacy:privacy", "Export or erase a person's data."),
    "gateway": ("gateway:gateway", "Connect the provider."),
}


def main() -> None:
    """Turn each expected error into one line and an exit code. A bug keeps its traceback."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as on stderr; KOI8-R has no arrow
    try:
        try:
            cli()
        finally:
            _flush_output()
    except BrokenPipeError:  # the reader of the output has closed it
        sys.exit(1)
    except ConfigurationError as error:
        for problem in error.problems:
            click.echo(f"mailing: {problem}", err=True)
        sys.exit(2)
    except MailingError as error:
        click.echo(f"mailing: {error}", err=True)
        sys.exit(1)
    except Exception as error:
        from mailing.database.error_messages import describe  # noqa: PLC0415 - not every command has a database
        from mailing.database.errors import DATABASE_ERRORS  # noqa: PLC0415 - as above

        if not isinstance(error, DATABASE_ERRORS):
            raise
        click.echo(f"mailing: {describe(error)}", err=True)
        sys.exit(1)


def _flush_output() -> None:
    """Flush standard output while an error can still be reported. Python flushes once more at the exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise


class LazyGroup(click.Group):
    """A group that loads a command's module when the command runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(f"mailing.cli.{module}"), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][1]) for name in sorted(COMMANDS)])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]}, epilog=example("mailing up"))
@click.version_option(package_name="mailing", prog_name="mailing")
def cli() -> None:
    """Send bulk SMS through an HTTP gateway, with PostgreSQL as the only dependency.

    Settings are environment variables named MAILING_…, or lines of .env. See .env.example for the list.
    """
