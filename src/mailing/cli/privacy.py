"""`mailing privacy`: export a person's data, erase it, keep the record of erasures.

A phone given as `-` is read from standard input, so that it does not appear in the shell's history.
"""

import re
import sys
from functools import partial
from typing import BinaryIO

import click
import msgspec

from mailing.cli.database import in_transaction, with_database
from mailing.cli.options import example
from mailing.clients.phone import normalised_phone
from mailing.errors import FieldError, Invalid
from mailing.privacy import erasure
from mailing.privacy.repository import Erasure, erasure_log

MAX_LINE_BYTES = 4096


def _phone(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    phone = _read_line() if value == "-" else value
    try:
        return str(normalised_phone(phone))
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _read_line() -> str:
    """Read the only line of standard input. Of several phones, all but the first would silently be left out."""
    first = sys.stdin.buffer.readline().decode(errors="replace")
    if not sys.stdin.isatty() and sys.stdin.buffer.read().strip():
        raise click.BadParameter("standard input has several lines; give one phone at a time")
    return first.strip()


phone_argument = click.argument("phone", callback=_phone)


@click.group(epilog=example("mailing privacy export 79161234567"))
def privacy() -> None:
    """Export or erase a person's data."""


@privacy.command(epilog=example("mailing privacy export - < phone.txt > person.json"))
@phone_argument
def export(phone: str) -> None:
    """Print what is stored about the person with this phone, as JSON.

    With - as PHONE, it is read from standard input.
    """
    known = in_transaction(lambda session: erasure.export_person(session, phone))
    click.echo(msgspec.json.format(msgspec.json.encode(known), indent=2))


@privacy.command(epilog=example("mailing privacy erase 79161234567"))
@phone_argument
def erase(phone: str) -> None:
    """Erase the person with this phone for good and refuse the phone.

    Unsent messages are cancelled. Statistics keep their counts. With - as PHONE, it is read from standard input.
    """
    erased = with_database(lambda sessions: erasure.erase(sessions, phone))
    client = "The client is erased" if erased.client else "There was no client with this phone"
    click.echo(f"{client}. The phone was removed from {erased.messages} messages and is refused from now on.")


@privacy.command(epilog=example("mailing privacy allow 79161234567"))
@phone_argument
def allow(phone: str) -> None:
    """Allow an erased phone to be stored again. Erased data does not come back."""
    in_transaction(lambda session: erasure.allow_again(session, phone))
    click.echo("The phone may be stored again.")


@privacy.command(epilog=example("mailing privacy log > erasures.jsonl"))
def log() -> None:
    """Print the log of erasures as JSON Lines, to keep beside backups.

    It contains hashes, no phones.
    """
    for each in in_transaction(erasure_log):
        click.echo(msgspec.json.encode(each))


@privacy.command(epilog=example("mailing privacy reapply erasures.jsonl"))
@click.argument("file", type=click.File("rb"))
def reapply(file: BinaryIO) -> None:
    """After a restore, erase everyone in a log of erasures again."""
    lines = enumerate(iter(partial(file.readline, MAX_LINE_BYTES), b""), start=1)
    erased = [_erasure(number, line) for number, line in lines if line.strip()]
    again = with_database(lambda sessions: erasure.reapply(sessions, erased))
    click.echo(f"{again} erased again, {len(erased)} in the log.")


def _erasure(number: int, line: bytes) -> Erasure:
    try:
        found = msgspec.json.decode(line, type=Erasure)
    except (msgspec.DecodeError, UnicodeError):
        raise _unreadable(number) from None
    if not re.fullmatch("[0-9a-f]{64}", found.hash):
        raise _unreadable(number)
    return found


def _unreadable(number: int) -> Invalid:
    return Invalid(FieldError(f"line {number}", "was not written by mailing privacy log"))
