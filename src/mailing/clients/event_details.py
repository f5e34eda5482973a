"""The details that an event records of a client; of the phone only that it changed.

Opting out and in are events of their own.
"""

from typing import Any

from mailing.clients.schemas import ClientOut
from mailing.events.difference import difference

FIELDS = ("operator_code", "tag", "timezone")


def details(client: ClientOut) -> dict[str, Any]:
    return {name: getattr(client, name) for name in FIELDS}


def final_details(client: ClientOut) -> dict[str, Any]:
    """Describe a deleted client. By `created_at` its history still finds the import that created it."""
    return details(client) | {"created_at": client.created_at.isoformat()}


def change(old: ClientOut, new: ClientOut) -> dict[str, Any]:
    return difference(*({"phone": client.phone} | details(client) for client in (old, new)), hidden="phone")
