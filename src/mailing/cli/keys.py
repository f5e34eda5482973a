"""`mailing key`: API keys."""

import click
from rich.table import Table

from mailing.access import api_keys
from mailing.cli.database import in_transaction, with_database
from mailing.cli.options import example
from mailing.cli.users import instant, print_table
from mailing.events import COMMAND_LINE


@click.group(epilog=example("mailing key create crm"))
def key() -> None:
    """Manage keys for the API."""


@key.command("create", epilog=example("mailing key create crm"))
@click.argument("name")
@click.option("--scope", type=click.Choice([api_keys.READ, api_keys.FULL]), default=api_keys.FULL, show_default=True)
def key_create(name: str, scope: str) -> None:
    """Create a key and print it. It is not shown again."""
    click.echo(in_transaction(lambda session: api_keys.create(session, name, scope=scope, by=COMMAND_LINE)))


@key.command("list", epilog=example("mailing key list"))
def key_list() -> None:
    """List keys by name and first characters, never the keys themselves."""
    table = Table("id", "name", "begins with", "scope", "created", "created by", "revoked")
    for each in in_transaction(api_keys.all_keys):
        moments = (instant(each.created_at), each.made_by or COMMAND_LINE, instant(each.revoked_at))
        table.add_row(str(each.id), each.name, each.hint, each.scope, *moments)
    print_table(table)


@key.command("revoke", epilog=example("mailing key revoke 2"))
@click.argument("key_id", type=click.IntRange(1, 2**63 - 1))
def key_revoke(key_id: int) -> None:
    """Revoke a key. When the command returns, every process refuses it."""
    with_database(lambda sessions: api_keys.revoke(sessions, key_id, by=COMMAND_LINE))
    click.echo(f"Key {key_id} revoked.")
