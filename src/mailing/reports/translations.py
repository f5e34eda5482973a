"""The report's phrases: English in this module, other languages in the catalogue `ru.po`.

No phrase depends on a number's plural form.
"""

from collections.abc import Callable, Mapping
from functools import cache

from msgspec import Struct

from mailing.translations import translations


class Words(Struct, frozen=True, kw_only=True):
    """Phrases; names in braces are replaced by values, `date` is a pattern of Babel."""

    language: str
    date: str
    statuses: Mapping[str, str]
    meanings: Mapping[str, str]
    mailing_statuses: Mapping[str, str]
    title: str
    subject: str
    heading: str
    not_over: str
    zone: str
    span: str
    not_plain: str
    of_the_day: str
    so_far: str
    delivery: str
    by_hour: str
    not_sent: str
    busiest: str
    mailings: str
    no_mailing: str
    quote: str
    more: str
    all_done: str
    nothing_planned: str
    still_to_go: str
    went_wrong: str
    other_reasons: str
    no_reason: str
    altogether: str
    attached: str


@cache
def words_in(language: str) -> Words:
    catalogue = translations(language)
    _ = catalogue.gettext

    def pgettext(context: str, message: str) -> str:
        return str(catalogue.pgettext(context, message))

    return Words(
        language=language,
        date=_("d MMMM y"),
        statuses=_statuses(_),
        meanings=_meanings(_),
        mailing_statuses=_mailing_statuses(pgettext),
        title=_("Mailing report"),
        subject=_("Mailing report for {date}: {news}"),
        heading=_("Mailing report for {weekday}, {date}"),
        not_over=_("not over yet"),
        zone=_("Time zone {zone}: {span}"),
        span=_("{starts} to {ends} UTC"),
        not_plain=_(
            "Not a whole local day, but {starts} to {ends} local time: the time zone of the reports was changed."
        ),
        of_the_day=_("Messages that ended on this day"),
        so_far=_("Messages that ended on this day, which is not over yet"),
        delivery=_(
            "Delivered so far: {delivered} of {sent} sent; not delivered {undelivered}, without a receipt {awaited}"
        ),
        by_hour=_("By the hour"),
        not_sent=_("not sent"),
        busiest=_("most at {hour}: {messages}"),
        mailings=_("Mailings"),
        no_mailing=_("No mailing was running."),
        quote=_("“{text}”"),
        more=_("and {mailings} more with {messages} messages"),
        all_done=_("all {planned} planned messages are done"),
        nothing_planned=_("nothing planned"),
        still_to_go=_("{open} of {planned} planned messages still to go"),
        went_wrong=_("What went wrong"),
        other_reasons=_("other reasons"),
        no_reason=_("no reason given"),
        altogether=_("All mailings together, as of {moment}"),
        attached=_("The attached table has a row for every mailing."),
    )


def _statuses(_: Callable[[str], str]) -> dict[str, str]:
    return {
        "planned": _("planned"),
        "pending": _("pending"),
        "sending": _("sending"),
        "sent": _("sent"),
        "failed": _("failed"),
        "expired": _("expired"),
        "unknown": _("unknown"),
        "cancelled": _("cancelled"),
    }


def _meanings(_: Callable[[str], str]) -> dict[str, str]:
    return {
        "sent": _("accepted by the gateway"),
        "failed": _("refused by the gateway"),
        "expired": _("not sent before the mailing's end"),
        "unknown": _("may or may not have arrived"),
        "cancelled": _("stopped before it was sent"),
    }


def _mailing_statuses(pgettext: Callable[[str, str], str]) -> dict[str, str]:
    return {
        "draft": pgettext("mailing", "draft"),
        "scheduled": pgettext("mailing", "scheduled"),
        "running": pgettext("mailing", "running"),
        "paused": pgettext("mailing", "paused"),
        "finished": pgettext("mailing", "finished"),
        "cancelled": pgettext("mailing", "cancelled"),
        "deleted": pgettext("mailing", "deleted"),
    }
