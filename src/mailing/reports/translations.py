"""The report's phrases: English in this module, other languages in the catalogue `ru.po`.

No phrase depends on a number's plural form.
"""

from collections.abc import Mapping
from functools import cache

from msgspec import NODEFAULT, Struct
from msgspec.structs import fields

from mailing.mailings.counts import Counts
from mailing.mailings.states import MailingStatus
from mailing.translations import _, pgettext, translations


class Words(Struct, frozen=True, kw_only=True):
    """Phrases; names in braces are replaced by values, `date` is a pattern of Babel."""

    language: str
    statuses: Mapping[str, str]
    meanings: Mapping[str, str]
    mailing_statuses: Mapping[str, str]
    date: str = _("d MMMM y")
    title: str = _("Mailing report")
    subject: str = _("Mailing report for {date}: {news}")
    heading: str = _("Mailing report for {weekday}, {date}")
    not_over: str = _("not over yet")
    zone: str = _("Time zone {zone}: {span}")
    span: str = _("{starts} to {ends} UTC")
    not_plain: str = _(
        "Not a whole local day, but {starts} to {ends} local time: the time zone of the reports was changed."
    )
    of_the_day: str = _("Messages that ended on this day")
    so_far: str = _("Messages that ended on this day, which is not over yet")
    delivery: str = _(
        "Delivered so far: {delivered} of {sent} sent; not delivered {undelivered}, without a receipt {awaited}"
    )
    by_hour: str = _("By the hour")
    not_sent: str = _("not sent")
    busiest: str = _("most at {hour}: {messages}")
    mailings: str = _("Mailings")
    no_mailing: str = _("No mailing was running.")
    quote: str = _("“{text}”")
    more: str = _("and {mailings} more with {messages} messages")
    all_done: str = _("all {planned} planned messages are done")
    nothing_planned: str = _("nothing planned")
    still_to_go: str = _("{open} of {planned} planned messages still to go")
    went_wrong: str = _("What went wrong")
    other_reasons: str = _("other reasons")
    no_reason: str = _("no reason given")
    altogether: str = _("All mailings together, as of {moment}")
    attached: str = _("The attached table has a row for every mailing.")


_MEANINGS = {
    "sent": _("accepted by the gateway"),
    "failed": _("refused by the gateway"),
    "expired": _("not sent before the mailing's end"),
    "unknown": _("may or may not have arrived"),
    "cancelled": _("stopped before it was sent"),
}


@cache
def words_in(language: str) -> Words:
    """Translate everything. The catalogue has the statuses from the admin page."""
    catalogue = translations(language)
    mailing_statuses = (*MailingStatus, pgettext("mailing", "deleted"))
    return Words(
        language=language,
        statuses={status: catalogue.gettext(status) for status in Counts.__struct_fields__},
        meanings={status: catalogue.gettext(meaning) for status, meaning in _MEANINGS.items()},
        mailing_statuses={status: str(catalogue.pgettext("mailing", status)) for status in mailing_statuses},
        **{field.name: catalogue.gettext(field.default) for field in fields(Words) if field.default is not NODEFAULT},
    )
