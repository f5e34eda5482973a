"""The details that an event records of a change."""

from collections.abc import Mapping
from typing import Any


def difference(before: Mapping[str, Any], after: Mapping[str, Any], *, hidden: str) -> dict[str, Any]:
    """Describe a change: the fields that differ, with their old and new values; of `hidden` only that it changed."""
    fields = [name for name in before if before[name] != after[name]]
    shown = [name for name in fields if name != hidden]
    return {
        "fields": fields,
        "old": {name: before[name] for name in shown},
        "new": {name: after[name] for name in shown},
    }
