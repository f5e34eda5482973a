"""Who may: the commands `mailing admin …` for people and `mailing key …` for programs."""

import sys
from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial
from typing import TypeVar

import click
from rich.console import Console
from rich.table import Table
from sqlalchemy.ext.asyncio import AsyncSession

from mailing import db
from mailing.access import keys, users
from mailing.access.roles import Role
from mailing.errors import Conflict
from mailing.running import configured, example, run, with_database

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
    made = _done(lambda session: users.create(session, name, role=Role.named(role), password=password, by=BY))
    click.echo(f"User {made} is made.")


@admin.command("list", epilog=example("mailing admin list"))
def admin_list() -> None:
    """Show who may sign in."""
    table = Table("id", "name", "role", "signs in with", "created", "disabled")
    for user in _done(users.all_users):
        way = user.issuer or "a password"
        moments = (_moment(user.created_at), _moment(user.disabled_at))
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


async def _disabled(sessions: db.Sessions, *, name: str, revoke_keys: bool | None) -> users.KeysAfter:
    async with db.transaction(sessions) as session:
        user = await users.by_name(session, name)
        live = await keys.live_of(session, user.id)
        if live and revoke_keys is None:
            named = ", ".join(f"{each.id} ({each.name}, {each.hint}…)" for each in live)
            raise Conflict(f"The user made API keys that work: {named}. Say --revoke-keys or --keep-keys.")
        after = await users.disable(session, user.id, by=BY, revoke_keys=bool(revoke_keys))
    await keys.forgotten(after.revoked)
    return after


@admin.command("enable", epilog=example("mailing admin enable anna"))
@click.argument("name")
def admin_enable(name: str) -> None:
    """Let a disabled user in again."""
    _change(name, partial(users.enable, by=BY))
    click.echo("The user may sign in again.")


@click.group()
def key() -> None:
    """Keys for the API."""


@key.command("create", epilog=example("mailing key create crm"))
@click.argument("name")
@click.option("--scope", type=click.Choice([keys.READ, keys.FULL]), default=keys.FULL, show_default=True)
def key_create(name: str, scope: str) -> None:
    """Make a key and show it, once."""
    click.echo(_done(lambda session: keys.create(session, name, scope=scope, by=BY)))


@key.command("list", epilog=example("mailing key list"))
def key_list() -> None:
    """Show which keys exist, never the keys themselves."""
    table = Table("id", "name", "begins with", "may", "created", "made by", "revoked")
    for each in _done(keys.all_keys):
        moments = (_moment(each.created_at), each.made_by or BY, _moment(each.revoked_at))
        table.add_row(str(each.id), each.name, each.hint, each.scope, *moments)
    Console().print(table)


@key.command("revoke", epilog=example("mailing key revoke 2"))
@click.argument("key_id", type=click.IntRange(1))
def key_revoke(key_id: int) -> None:
    """Refuse a key from now on: once this says so, every process does."""
    run(with_database(configured(), lambda sessions: keys.revoke(sessions, key_id, by=BY)))
    click.echo(f"Key {key_id} is revoked.")


def _change(name: str, change: Callable[[AsyncSession, int], Awaitable[None]]) -> None:
    async def work(session: AsyncSession) -> None:
        await change(session, (await users.by_name(session, name)).id)

    _done(work)


def _done(work: Callable[[AsyncSession], Awaitable[T]]) -> T:
    """In one transaction."""

    async def whole(sessions: db.Sessions) -> T:
        async with db.transaction(sessions) as session:
            return await work(session)

    return run(with_database(configured(), whole))


def _password() -> str:
    """Never an argument: those stand in the list of processes and in the shell's history."""
    if sys.stdin.isatty():
        return str(click.prompt("Password", hide_input=True, confirmation_prompt=True))
    return sys.stdin.readline().rstrip("\r\n")


def _moment(instant: datetime | None) -> str:
    return f"{instant:%Y-%m-%d %H:%M} UTC" if instant else ""
