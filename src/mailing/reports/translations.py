"""The report's phrases: English in this module, other languages in the catalogue `ru.po`.

No phrase depends on a number's plural form.
"""

from collections.abc import Callable, Mapping
from functools import cache

from msgspec import Struct

from mailing.translations import translations


class Words(Struct, frozen=True, kw_only=True):
    """Phrases; names in braces are replaced by values, `date` is a pattern of Babel.

    `reasons` are patterns of the product's own sentences, longer ones first; other reasons stay as recorded.
    """

    language: str
    date: str
    statuses: Mapping[str, str]
    meanings: Mapping[str, str]
    mailing_statuses: Mapping[str, str]
    reasons: Mapping[str, str]
    title: str
    subject: str
    heading: str
    not_over: str
    zone: str
    span: str
    not_plain: str
    of_the_day: str
    so_far: str
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
        statuses=_statuses(pgettext),
        meanings=_meanings(_),
        mailing_statuses=_mailing_statuses(pgettext),
        reasons=_REASONS.get(language, {}),
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


def _statuses(pgettext: Callable[[str, str], str]) -> dict[str, str]:
    return {
        "planned": pgettext("report", "planned"),
        "pending": pgettext("report", "pending"),
        "sending": pgettext("report", "sending"),
        "sent": pgettext("report", "sent"),
        "failed": pgettext("report", "failed"),
        "expired": pgettext("report", "expired"),
        "unknown": pgettext("report", "unknown"),
        "cancelled": pgettext("report", "cancelled"),
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


_REASONS: Mapping[str, Mapping[str, str]] = {
    "ru": {
        "the mailing was cancelled or the client left while it was being sent": "рассылка отменена или клиент удалён",
        "the mailing's end was reached": "рассылка закончилась",
        r"no opening of (\S+) in (\S+) before the mailing's end": r"окно \1 (\2) не открылось до конца рассылки",
        r"the local hours of (\S+) are not known": r"местное время \1 неизвестно",
        "the mailing was cancelled": "рассылка отменена",
        "the mailing was deleted": "рассылка удалена",
        "the client was deleted": "клиент удалён",
        "the phone already had a message of this mailing": "на этот телефон сообщение рассылки уже ушло",
        "the client opted out": "клиент отказался от сообщений",
        "an edit of the mailing no longer selects this client": "после правки клиент не подходит под фильтр",
        "the worker was lost during the call": "процесс отправки пропал во время вызова",
        "the database was restored from a backup; a call made after it may have arrived": "база восстановлена из копии",
        "resolved as not delivered": "признано недоставленным",
        "gateway answered an empty body": "шлюз ответил пустым телом",
        "gateway answered HTML instead of JSON": "шлюз ответил HTML вместо JSON",
        "gateway answered something instead of JSON": "шлюз ответил не JSON",
        "gateway answered JSON that is not an object": "шлюз ответил не объектом JSON",
        "gateway answered JSON with no code": "в ответе шлюза нет кода",
        "gateway answered for another message id": "шлюз ответил о другом сообщении",
        "gateway answered code": "шлюз ответил кодом",
        "for another message id": "о другом сообщении",
        "the gateway closed the connection without an answer": "шлюз закрыл соединение без ответа",
        "the gateway's name does not resolve": "имя шлюза не найдено",
        "the connection failed": "соединение не удалось",
        "connection refused": "в соединении отказано",
        "connection reset by peer": "соединение разорвано",
        r"no complete answer within (\S+) s\b": r"нет полного ответа за \1 с",
        r"no free connection within (\S+) s\b": r"нет свободного соединения за \1 с",
        r"no connection within (\S+) s\b": r"нет соединения за \1 с",
        r"no answer within (\S+) s\b": r"нет ответа за \1 с",
    },
}
