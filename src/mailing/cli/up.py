"""`mailing up`: run everything on this machine until Ctrl-C."""

from collections.abc import Callable

import click

from mailing.cli.options import example
from mailing.cli.runtime import configured, run
from mailing.process.local_database import data_dir_of
from mailing.process.local_stack import LocalStack, local_stack, until_ended
from mailing.process.supervisor import Signals, undisturbed
from mailing.settings import DOTENV, Settings, names_of_others, source_of
from mailing.urls import host_of


@click.command(epilog=example("mailing up"))
def up() -> None:
    """Run API, worker, embedded PostgreSQL and sandbox gateway until Ctrl-C.

    MAILING_DATABASE_URL and MAILING_GATEWAY_URL replace the embedded database and the sandbox. Migrate a database of
    your own with `mailing migrate`.
    """
    run(run_up(configured(), click.echo))


async def run_up(settings: Settings, echo: Callable[[str], None]) -> None:
    signals = Signals()
    signals.listen()
    async with local_stack(settings, sandbox_port=settings.port + 1, signals=signals, echo=echo) as stack:
        for line in _announcement(settings, stack):
            echo(line)
        await until_ended(stack)
    undisturbed(echo)("stopped")


def _announcement(settings: Settings, stack: LocalStack) -> list[str]:
    data = data_dir_of(settings)
    lines = [
        f"API            {stack.url}/mailing/api/",
        f"admin page     {stack.url}/admin/",
        *(
            [f"               user admin, password {stack.admin_password}, not shown again"]
            if stack.admin_password
            else []
        ),
        f"documentation  {stack.url}/docs/",
        f"API key        {_key(settings, stack)}",
        f"database       {f'embedded, data in {data}' if not settings.database_url else 'MAILING_DATABASE_URL'}",
        f"gateway        {_gateway(settings, stack)}",
        f"settings       {source_of(DOTENV)}",
        *([f"               left alone there: {', '.join(others)}"] if (others := names_of_others(DOTENV)) else []),
        "Ctrl-C stops everything.",
    ]
    return [*lines, ""]


def _gateway(settings: Settings, stack: LocalStack) -> str:
    if settings.gateway_url:
        return host_of(settings.gateway_url)
    return f"sandbox, nothing reaches a phone (MAILING_GATEWAY_URL is not set); see {stack.sandbox_url}/"


def _key(settings: Settings, stack: LocalStack) -> str:
    """Return the key if it was generated just now, else where it is: later logs do not show it."""
    if stack.made_key:
        return stack.api_key
    return "the one in MAILING_API_KEY" if settings.api_key else f"the one in {data_dir_of(settings) / 'api-key'}"
