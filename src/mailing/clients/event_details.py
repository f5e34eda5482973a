"""What an event tells of a client's fields; of the phone only that it changed.

Opting out and in are events of their own.
"""

from typing import Any

from mailing.clients.schemas import ClientOut

FIELDS = ("operator_code", "tag", "timezone")


def details(client: ClientOut) -> dict[str, Any]:
    return {name: getattr(client, name) for name in FIELDS}


def final_details(client: ClientOut) -> dict[str, Any]:
    """Of one that goes. By `created_at` its story still finds the import that made it."""
    return details(client) | {"created_at": client.created_at.isoformat()}


def difference(old: ClientOut, new: ClientOut) -> dict[str, Any]:
    """The names of the fields that differ, and what they were and are."""
    fields = [name for name in ("phone", *FIELDS) if getattr(old, name) != getattr(new, name)]
    before, after = details(old), details(new)
    return {
        "fields": fields,
        "old": {name: before[name] for name in FIELDS if name in fields},
        "new": {name: after[name] for name in FIELDS if name in fields},
    }
