"""`mailing admin`: users of the admin page."""

import sys
from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial
from typing import TypeVar

import click
from rich.console import Console
from rich.table import Table
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.access import api_keys, users
from mailing.access.roles import Role
from mailing.cli.runtime import configured, example, run, with_database
from mailing.database.engine import Sessions, transaction
from mailing.errors import Conflict

T = TypeVar("T")

BY = "command line"  # in the record of events

role_option = click.option(
    "--role",
    type=click.Choice([str(role) for role in Role]),
    default="admin",
    show_default=True,
    help="A viewer reads, an editor prepares, a sender sends and stops, an admin gives access.",
)


@click.group()
def admin() -> None:
    """People who sign in at the admin page."""


@admin.command("create", epilog=example("mailing admin create anna --role sender"))
@click.argument("name")
@role_option
def admin_create(name: str, role: str) -> None:
    """Make a user; the password is asked for, or read as one line from standard input."""
    password = _password()
    made = in_transaction(lambda session: users.create(session, name, role=Role.named(role), password=password, by=BY))
    click.echo(f"User {made} is made.")


@admin.command("list", epilog=example("mailing admin list"))
def admin_list() -> None:
    """Show who may sign in."""
    table = Table("id", "name", "role", "signs in with", "created", "disabled")
    for user in in_transaction(users.all_users):
        way = user.issuer or "a password"
        moments = (instant(user.created_at), instant(user.disabled_at))
        table.add_row(str(user.id), user.name, str(user.role), way, *moments)
    Console().print(table)


@admin.command("password", epilog=example("mailing admin password anna"))
@click.argument("name")
def admin_password(name: str) -> None:
    """Give a user a new password, end a lock and all sessions; it is asked for, or read from standard input."""
    _change(name, partial(users.set_password, password=_password(), by=BY))
    click.echo("The password is set; every session of the user has ended.")


@admin.command("disable", epilog=example("mailing admin disable anna"))
@click.argument("name")
@click.option(
    "--revoke-keys/--keep-keys", default=None, help="The API keys that the user made; to be said if any work."
)
def admin_disable(name: str, revoke_keys: bool | None) -> None:
    """Let a user in no more, and end all the user's sessions."""
    after = run(with_database(configured(), partial(_disabled, name=name, revoke_keys=revoke_keys)))
    told = [(after.revoked, "revoked"), (after.live, "left working")]
    click.echo("The user is disabled." + "".join(f" API keys {what}: {number}." for number, what in told if number))


async def _disabled(sessions: Sessions, *, name: str, revoke_keys: bool | None) -> users.KeyCounts:
    async with transaction(sessions) as session:
        user = await users.by_name(session, name)
        live = await api_keys.live_of(session, user.id)
        if live and revoke_keys is None:
            named = ", ".join(f"{each.id} ({each.name}, {each.hint}…)" for each in live)
            raise Conflict(f"The user made API keys that work: {named}. Say --revoke-keys or --keep-keys.")
        after = await users.disable(session, user.id, by=BY, revoke_keys=bool(revoke_keys))
    await api_keys.wait_until_revoked(after.revoked)
    return after


@admin.command("enable", epilog=example("mailing admin enable anna"))
@click.argument("name")
def admin_enable(name: str) -> None:
    """Let a disabled user in again."""
    _change(name, partial(users.enable, by=BY))
    click.echo("The user may sign in again.")


def _change(name: str, change: Callable[[AsyncSession, int], Awaitable[None]]) -> None:
    async def work(session: AsyncSession) -> None:
        await change(session, (await users.by_name(session, name)).id)

    in_transaction(work)


def in_transaction(work: Callable[[AsyncSession], Awaitable[T]]) -> T:
    """In one transaction."""

    async def whole(sessions: Sessions) -> T:
        async with transaction(sessions) as session:
            return await work(session)

    return run(with_database(configured(), whole))


def _password() -> str:
    """Never an argument: those stand in the list of processes and in the shell's history."""
    if sys.stdin.isatty():
        return str(click.prompt("Password", hide_input=True, confirmation_prompt=True))
    return sys.stdin.readline().rstrip("\r\n")


def instant(instant: datetime | None) -> str:
    return f"{instant:%Y-%m-%d %H:%M} UTC" if instant else ""
