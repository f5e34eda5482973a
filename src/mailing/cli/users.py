"""`mailing user`: users of the admin page."""

import sys
from datetime import datetime
from functools import partial

import click
from rich.console import Console
from rich.table import Table
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.access import api_keys, users
from mailing.access.roles import Role
from mailing.cli.database import in_transaction, with_database
from mailing.cli.options import example
from mailing.database.engine import Sessions, transaction
from mailing.errors import Conflict
from mailing.events import COMMAND_LINE

MAX_WIDTH = 10_000  # of a table that is not for a terminal

role_option = click.option(
    "--role",
    type=click.Choice([str(role) for role in Role]),
    default=str(Role.ADMIN),
    show_default=True,
    help="A viewer reads, an editor prepares, a sender sends and stops, an admin manages access.",
)


@click.group(epilog=example("mailing user create anna --role sender"))
def user() -> None:
    """Manage the people who sign in to the admin page."""


@user.command("create", epilog=example("mailing user create anna --role sender"))
@click.argument("name")
@role_option
def user_create(name: str, role: str) -> None:
    """Create a user.

    The password is prompted for, or read as one line from standard input.
    """
    password = _password()
    made = in_transaction(
        lambda session: users.create(session, name, role=Role.named(role), password=password, by=COMMAND_LINE)
    )
    click.echo(f"User {made} created.")


@user.command("list", epilog=example("mailing user list"))
def user_list() -> None:
    """List users, with their roles and how they sign in."""
    table = Table("id", "name", "role", "signs in with", "created", "disabled")
    for user in in_transaction(users.all_users):
        way = user.issuer or "a password"
        moments = (instant(user.created_at), instant(user.disabled_at))
        table.add_row(str(user.id), user.name, str(user.role), way, *moments)
    print_table(table)


@user.command("password", epilog=example("mailing user password anna"))
@click.argument("name")
def user_password(name: str) -> None:
    """Set a user's password, unlock them and end all their sessions.

    The password is prompted for, or read as one line from standard input.
    """
    find, password = partial(users.by_name, name=name), _password()
    with_database(lambda sessions: users.reset_password(sessions, find, password, by=COMMAND_LINE))
    click.echo("Password set. All sessions of the user have ended.")


@user.command("disable", epilog=example("mailing user disable anna"))
@click.argument("name")
@click.option(
    "--revoke-keys/--keep-keys",
    default=None,
    help="What happens to the API keys that the user made. Required if any of them still works.",
)
def user_disable(name: str, revoke_keys: bool | None) -> None:
    """Disable a user and end all their sessions."""
    after = with_database(partial(_disabled, name=name, revoke_keys=revoke_keys))
    keys = [(after.revoked, "revoked"), (after.live, "left working")]
    click.echo("User disabled." + "".join(f" API keys {what}: {number}." for number, what in keys if number))


async def _disabled(sessions: Sessions, *, name: str, revoke_keys: bool | None) -> users.KeyCounts:
    async with transaction(sessions) as session:
        user = await users.by_name(session, name)
        live = await api_keys.live_of(session, user.id)
        if live and revoke_keys is None:
            named = ", ".join(f"{each.id} ({each.name}, {each.hint}…)" for each in live)
            raise Conflict(f"The user made API keys that still work: {named}. Add --revoke-keys or --keep-keys.")
        after = await users.disable(session, user.id, by=COMMAND_LINE, revoke_keys=bool(revoke_keys))
    await api_keys.wait_until_revoked(after.revoked)
    return after


@user.command("enable", epilog=example("mailing user enable anna"))
@click.argument("name")
def user_enable(name: str) -> None:
    """Let a disabled user sign in again."""

    async def work(session: AsyncSession) -> None:
        await users.enable(session, (await users.by_name(session, name)).id, by=COMMAND_LINE)

    in_transaction(work)
    click.echo("User enabled.")


def _password() -> str:
    """Read the password; never from an argument, which the process list and the shell's history would show."""
    if sys.stdin.isatty():
        return str(click.prompt("Password", hide_input=True, confirmation_prompt=True))
    return sys.stdin.readline().rstrip("\r\n")


def print_table(table: Table) -> None:
    """Fit it to the terminal; in a file or a pipe each row is one line. No name is taken for markup."""
    width = None if sys.stdout.isatty() else MAX_WIDTH
    Console(width=width, markup=False, emoji=False).print(table)


def instant(instant: datetime | None) -> str:
    return f"{instant:%Y-%m-%d %H:%M} UTC" if instant else ""
