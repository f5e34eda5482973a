"""`mailing person`: what is known about somebody, and that it is forgotten.

A phone given as `-` is read from standard input, so that it stays in no history of commands.
"""

import re
import sys
from typing import TextIO

import click
import msgspec

from mailing.cli.runtime import configured, run, with_database
from mailing.clients.phone import RULE, is_phone
from mailing.errors import FieldError, Invalid
from mailing.privacy import erasure as privacy
from mailing.privacy.repository import Erasure


def _phone(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    phone = sys.stdin.readline().strip() if value == "-" else value
    if not is_phone(phone):
        raise click.BadParameter(f"must be {RULE}")
    return phone


phone_given = click.argument("phone", callback=_phone)


@click.group(epilog="\b\nExample:\n  mailing person export 79161234567")
def person() -> None:
    """What is known about a person, and that it is forgotten."""


@person.command(epilog="\b\nExample:\n  mailing person export - < phone.txt > person.json")
@phone_given
def export(phone: str) -> None:
    """Everything known about the person with this phone, as JSON; PHONE - reads it from standard input."""
    known = run(with_database(configured(), lambda sessions: privacy.export_person(sessions, phone)))
    click.echo(msgspec.json.format(msgspec.json.encode(known), indent=2))


@person.command(epilog="\b\nExample:\n  mailing person erase 79161234567")
@phone_given
def erase(phone: str) -> None:
    """Erase the person with this phone, for good; the phone is refused from then on.

    Unsent messages are cancelled; what was counted stays counted. PHONE - reads it from standard input.
    """
    erased = run(with_database(configured(), lambda sessions: privacy.erase(sessions, phone)))
    client = "The client is erased" if erased.client else "There was no client with this phone"
    click.echo(f"{client}; the phone was taken out of {erased.messages} messages and is refused from now on.")


@person.command(epilog="\b\nExample:\n  mailing person lift 79161234567")
@phone_given
def lift(phone: str) -> None:
    """Allow the phone of an erased person again; nothing comes back by that."""
    run(with_database(configured(), lambda sessions: privacy.allow_again(sessions, phone)))
    click.echo("The phone may be stored again.")


@person.command(epilog="\b\nExample:\n  mailing person log > erasures.jsonl")
def log() -> None:
    """The log of erasures, a line each, to keep beside the backups; it names nobody."""
    for each in run(with_database(configured(), privacy.erasures)):
        click.echo(msgspec.json.encode(each))


@person.command(epilog="\b\nExample:\n  mailing person reapply erasures.jsonl")
@click.argument("file", type=click.File(encoding="utf-8"))
def reapply(file: TextIO) -> None:
    """Erase again whom a restored backup has brought back, by a log of erasures."""
    lines = [_erasure(number, line) for number, line in enumerate(file, start=1) if line.strip()]
    again = run(with_database(configured(), lambda sessions: privacy.reapply(sessions, lines)))
    click.echo(f"{again} erased again, {len(lines)} in the log.")


def _erasure(number: int, line: str) -> Erasure:
    try:
        erasure = msgspec.json.decode(line, type=Erasure)
    except (msgspec.DecodeError, UnicodeError):
        raise _unreadable(number) from None
    if not re.fullmatch("[0-9a-f]{64}", erasure.hash):
        raise _unreadable(number)
    return erasure


def _unreadable(number: int) -> Invalid:
    return Invalid(FieldError(f"line {number}", "is no line that mailing person log has written"))
