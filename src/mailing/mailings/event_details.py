"""The details that an event records of a mailing: times, filter and window; of the text only that it changed."""

from typing import Any

import msgspec

from mailing.events.difference import difference
from mailing.mailings.schemas import MailingOut
from mailing.mailings.states import MailingStatus

FIELDS = ("starts_at", "ends_at", "filter", "local_window")


def details(mailing: MailingOut) -> dict[str, Any]:
    """Describe a new mailing. `draft` is only set for a draft: any other mailing is released by creating it."""
    draft = {"draft": True} if mailing.status is MailingStatus.draft else {}
    return _fields(mailing) | draft


def _fields(mailing: MailingOut) -> dict[str, Any]:
    whole = msgspec.to_builtins(mailing)
    return {name: whole[name] for name in FIELDS}


def change(old: MailingOut, new: MailingOut, *, text_revision: int) -> dict[str, Any]:
    """Describe a change, with the mailing's revision, and for a new text its revision."""
    changed = difference(*({"text": mailing.text} | _fields(mailing) for mailing in (old, new)), hidden="text")
    text = {"text_revision": text_revision} if "text" in changed["fields"] else {}
    return {"revision": new.revision} | changed | text
