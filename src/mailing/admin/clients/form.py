"""Parsing of the forms on the client pages."""

import re
from collections.abc import Mapping
from typing import Any

from msgspec import UNSET, Struct
from msgspec.structs import replace

from mailing.admin.viewer import Viewer
from mailing.clients.phone import LENGTH
from mailing.clients.schemas import ClientIn, ClientOut
from mailing.clients.search import FIRST, Search, SearchCursor
from mailing.web.parameters import MAX_ID
from mailing.web.validation import check

MAX_LENGTH = 100  # characters of a filter
FILTERS = ("begins", "ends", "tag", "operator_code", "timezone", "opted_out")

_POSITION = re.compile("[0-9]{1,19}").fullmatch
_OPTED_OUT = {"yes": True, "no": False}


class SearchForm(Struct):
    """A parsed search. `typed` is shown in the form again; `errors` are by field."""

    search: Search
    place: SearchCursor
    typed: Mapping[str, str]
    errors: dict[str, str]


def parse_search(query: Mapping[str, str], viewer: Viewer) -> SearchForm:
    typed = {name: "".join(filter(str.isprintable, query.get(name, "").strip()))[:MAX_LENGTH] for name in FILTERS}
    digits = {name: _digits(typed[name]) for name in ("begins", "ends", "operator_code")}
    bad = [name for name, found in digits.items() if found is None]
    errors = {name: viewer.gettext("Up to 11 digits, such as 7916 or 4567.") for name in bad}
    texts = {name: found or "" for name, found in digits.items()} | {"tag": typed["tag"], "timezone": typed["timezone"]}
    search = Search(**texts, opted_out=_OPTED_OUT.get(typed["opted_out"]))
    return SearchForm(replace(search, begins=_with_country_code(search.begins)), _place(query), typed, errors)


def _digits(text: str) -> str | None:
    """Return the digits of a phone without separators, None if it has other characters."""
    digits = re.sub(r"[\s()+-]", "", text)
    return digits if re.fullmatch(f"[0-9]{{0,{LENGTH}}}", digits) else None


def _with_country_code(digits: str) -> str:
    """Complete the country code: a leading 8, or none before a 9, stands for 7. Only searches may guess."""
    if digits.startswith("8"):
        return "7" + digits[1:]
    return ("7" + digits)[:LENGTH] if digits.startswith("9") else digits


def _place(query: Mapping[str, str]) -> SearchCursor:
    for name in ("after", "before"):
        position = query.get(name, "")
        if _POSITION(position) and int(position) <= MAX_ID:
            return SearchCursor(int(position), backwards=name == "before")
    return FIRST


def client_of(typed: Mapping[str, str]) -> ClientIn:
    """Raise Invalid. Only a changed checkbox sets the opt-out, so one recorded meanwhile is kept."""
    given: dict[str, Any] = {name: typed.get(name, "") for name in ("phone", "timezone")}
    given |= {name: typed[name] for name in ("operator_code", "tag") if typed.get(name)}
    client = check(given, ClientIn)
    opted_out = typed.get("opted_out") == "yes"
    return replace(client, opted_out=UNSET if opted_out == (typed.get("was_opted_out") == "yes") else opted_out)


def form_values(client: ClientOut) -> dict[str, str]:
    opted_out = "yes" if client.opted_out else ""
    return {
        "phone": client.phone,
        "operator_code": client.operator_code,
        "tag": client.tag or "",
        "timezone": client.timezone,
        "opted_out": opted_out,
        "was_opted_out": opted_out,
        "revision": client.updated_at.isoformat(),
    }
