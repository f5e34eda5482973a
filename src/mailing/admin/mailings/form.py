"""The mailing form: fields as typed, with times in the form's time zone."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Self
from zoneinfo import ZoneInfo

from msgspec import Struct
from msgspec.structs import replace

from mailing.admin.forms import form_fields
from mailing.admin.pages import edit_conflicts
from mailing.admin.viewer import Viewer
from mailing.errors import FieldError, Invalid
from mailing.mailings.models import Mailing
from mailing.mailings.schemas import MailingIn
from mailing.mailings.states import NOT_STARTED
from mailing.timezones import known_zone, zone_named
from mailing.web.state import AnyRequest
from mailing.web.validation import check

DEFAULT_DURATION = timedelta(days=1)
MAX_FORM_BYTES = 256 * 1024  # 100 tags of 100 letters, each letter written as up to 12 bytes, and the text
MAX_FORM_FIELDS = 250


class MailingForm(Struct, frozen=True):
    """`starts_at` and `ends_at` in the format of `datetime-local`; an empty start means at once.

    `find_…` are the words by which choices are searched. `revision` is the mailing's when the form was filled in.
    """

    text: str
    starts_at: str
    ends_at: str
    zone: str
    tags: list[str]
    operator_codes: list[str]
    window_start: str
    window_end: str
    find_tags: str = ""
    find_operator_codes: str = ""
    revision: str = ""

    @classmethod
    def of(cls, mailing: Mailing, zone: str) -> Self:
        window = mailing.window
        return cls(
            text=mailing.text,
            starts_at=local_input(mailing.starts_at, zone),
            ends_at=local_input(mailing.ends_at, zone),
            zone=zone,
            tags=mailing.tags,
            operator_codes=mailing.operator_codes,
            window_start=f"{window.start:%H:%M}" if window else "",
            window_end=f"{window.end:%H:%M}" if window else "",
            revision=str(mailing.content_revision),
        )

    @classmethod
    def anew(cls, now: datetime, zone: str, *, like: Mailing | None) -> Self:
        """Start at the next full hour and last a day; or copy `like`, moved to that hour."""
        local = now.astimezone(zone_named(zone)).replace(minute=0) + timedelta(hours=1)
        begin, lasts = local.astimezone(UTC), like.ends_at - like.starts_at if like else DEFAULT_DURATION
        times = {"starts_at": local_input(begin, zone), "ends_at": local_input(begin + lasts, zone)}
        if like:
            return replace(cls.of(like, zone), **times, revision="")
        return cls(text="", zone=zone, tags=[], operator_codes=[], window_start="09:00", window_end="21:00", **times)


def local_input(instant: datetime, zone: str) -> str:
    return f"{instant.astimezone(zone_named(zone)):%Y-%m-%dT%H:%M}"


async def parse_form(request: AnyRequest) -> MailingForm:
    sent: dict[str, list[str]] = {name: [] for name in MailingForm.__struct_fields__}
    for name, value in await form_fields(request, max_fields=MAX_FORM_FIELDS):
        if name in sent:
            sent[name].append(value)
    return MailingForm(
        text="".join(sent.pop("text")[:1]).replace("\r\n", "\n"),
        tags=sent.pop("tags"),
        operator_codes=sent.pop("operator_codes"),
        **{name: "".join(values[:1]).strip() for name, values in sent.items()},
    )


def revision_of(sent: Mapping[str, str]) -> int:
    """Return the revision that the page showed; 0, which matches none, if the form has no valid one."""
    given = sent.get("revision", "")
    return int(given) if given.isdecimal() and len(given) < 10 else 0


def mailing_edit_conflicts(viewer: Viewer, entered: MailingForm, stored: Mailing) -> dict[str, str]:
    """Return the errors of a form that was filled in before the mailing's last change; none if both say the same."""
    now = MailingForm.of(stored, entered.zone)
    if entered.revision in {"", now.revision}:
        return {}
    names = ["text", "ends_at", "window_start", "window_end", "tags", "operator_codes"]
    names += ["starts_at"] if stored.status in NOT_STARTED else []
    typed, present = ({name: _line(getattr(each, name)) for name in names} for each in (entered, now))
    return edit_conflicts(viewer, typed, present)


def _line(value: str | list[str]) -> str:
    return value if isinstance(value, str) else ", ".join(sorted(value))


def mailing_of(entered: MailingForm, *, now: datetime, stored: Mailing | None = None) -> MailingIn:
    """Raise Invalid with the API's field names. Unchanged times keep the stored seconds."""
    if not known_zone(entered.zone):
        raise Invalid(FieldError("zone", "must be a time zone"))
    begun = stored is not None and stored.status not in NOT_STARTED
    starts_at = None if begun else entered.starts_at or now
    window = {"start": entered.window_start, "end": entered.window_end}
    value: dict[str, object] = {
        "text": entered.text,
        "starts_at": _instant(starts_at, entered.zone, stored.starts_at if stored else None),
        "ends_at": _instant(entered.ends_at, entered.zone, stored.ends_at if stored else None),
        "filter": {"tags": entered.tags, "operator_codes": entered.operator_codes},
        "local_window": window if any(window.values()) else None,
    }
    return check(value, MailingIn)


def _instant(given: str | datetime | None, zone: str, stored: datetime | None) -> str | None:
    """Return RFC 3339; None for a time that does not exist in the zone."""
    if isinstance(given, datetime):
        return given.isoformat()
    if stored and given in {None, local_input(stored, zone)}:
        return stored.isoformat()
    return _local_instant(given or "", zone_named(zone))


def _local_instant(given: str, zone: ZoneInfo) -> str | None:
    """Resolve a local time: of a repeated hour the first; None for a skipped hour."""
    try:
        naive = datetime.fromisoformat(given)
        instant = naive.replace(tzinfo=zone).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return instant.isoformat() if instant.astimezone(zone).replace(tzinfo=None) == naive else None


def error_messages(viewer: Viewer, refused: Invalid) -> dict[str, str]:
    """Return the rule of each refused field, by its name in the form."""
    rules = {
        "text": viewer.gettext("Enter a text of 1 to 1,600 characters."),
        "starts_at": viewer.gettext("Enter a start: a date and time that exist in this time zone."),
        "ends_at": viewer.gettext("Enter an end: a date and time in the future and after the start."),
        "zone": viewer.gettext("Enter the name of a time zone, such as Europe/Moscow."),
        "window_start": viewer.gettext("Enter two different times of day, or neither to send at any hour."),
        "tags": viewer.gettext("Choose up to 100 tags."),
        "operator_codes": viewer.gettext("Choose up to 100 operator codes, three digits each."),
    }
    names = {_form_field(error.field) for error in refused.errors}
    return {name: rule for name, rule in rules.items() if name in names}


def _form_field(field: str) -> str:
    if field.startswith("local_window"):
        return "window_start"
    return field.removeprefix("filter.").partition(".")[0]
