"""The details that an event records of a client; of the phone only that it changed.

Opting out and in are events of their own.
"""

from typing import Any

from mailing.clients.schemas import ClientOut

FIELDS = ("operator_code", "tag", "timezone")


def details(client: ClientOut) -> dict[str, Any]:
    return {name: getattr(client, name) for name in FIELDS}


def final_details(client: ClientOut) -> dict[str, Any]:
    """Describe a deleted client. By `created_at` its history still finds the import that created it."""
    return details(client) | {"created_at": client.created_at.isoformat()}


def difference(old: ClientOut, new: ClientOut) -> dict[str, Any]:
    """Describe a change: the fields that differ, their old and new values."""
    fields = [name for name in ("phone", *FIELDS) if getattr(old, name) != getattr(new, name)]
    before, after = details(old), details(new)
    return {
        "fields": fields,
        "old": {name: before[name] for name in FIELDS if name in fields},
        "new": {name: after[name] for name in FIELDS if name in fields},
    }
