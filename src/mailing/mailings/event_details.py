"""The details that an event records of a mailing: times, filter and window; of the text only that it changed."""

from typing import Any

import msgspec

from mailing.mailings.schemas import MailingOut
from mailing.mailings.states import MailingStatus

FIELDS = ("starts_at", "ends_at", "filter", "local_window")


def details(mailing: MailingOut) -> dict[str, Any]:
    """Describe a new mailing. `draft` is only there for one: any other mailing is released by creating it."""
    draft = {"draft": True} if mailing.status is MailingStatus.draft else {}
    return _fields(mailing) | draft


def _fields(mailing: MailingOut) -> dict[str, Any]:
    whole = msgspec.to_builtins(mailing)
    return {name: whole[name] for name in FIELDS}


def difference(old: MailingOut, new: MailingOut, *, text_revision: int) -> dict[str, Any]:
    """Describe a change: the fields that differ, their old and new values; for a new text its revision."""
    fields = [name for name in ("text", *FIELDS) if getattr(old, name) != getattr(new, name)]
    before, after = _fields(old), _fields(new)
    return {
        "revision": new.revision,
        "fields": fields,
        "old": {name: before[name] for name in FIELDS if name in fields},
        "new": {name: after[name] for name in FIELDS if name in fields},
    } | ({"text_revision": text_revision} if "text" in fields else {})
