"""The report's words in each of its languages.

One struct and no catalogue files: the type checker sees a phrase that a language lacks, and nothing has to be compiled.
The phrases are built so that no number decides about the form of a word.
"""

from collections.abc import Mapping, Sequence

from msgspec import Struct


class Words(Struct, frozen=True, kw_only=True):
    """Names in braces are what the report puts there. `reasons` are patterns of the product's own sentences, those
    that hold others first; what is not found stays as it was recorded.
    """

    language: str
    months: Sequence[str]
    weekdays: Sequence[str]
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


EN = Words(
    language="en",
    months=(
        *("January", "February", "March", "April", "May", "June", "July"),
        *("August", "September", "October", "November", "December"),
    ),
    weekdays=("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
    date="{day} {month} {year}",
    statuses={
        "planned": "planned",
        "pending": "pending",
        "sending": "sending",
        "sent": "sent",
        "failed": "failed",
        "expired": "expired",
        "unknown": "unknown",
        "cancelled": "cancelled",
    },
    meanings={
        "sent": "accepted by the gateway",
        "failed": "refused by the gateway",
        "expired": "not sent before the mailing's end",
        "unknown": "nobody can know whether it arrived",
        "cancelled": "stopped before it was sent",
    },
    mailing_statuses={},
    reasons={},
    title="Mailing report",
    subject="Mailing report for {date}: {news}",
    heading="Mailing report for {weekday}, {date}",
    not_over="not over yet",
    zone="Time zone {zone}: {span}",
    span="{starts} to {ends} UTC",
    not_plain="Not a plain day, but {starts} to {ends} there: the reports' time zone was changed.",
    of_the_day="Messages that ended on this day",
    so_far="Messages that ended on this day, which is not over yet",
    by_hour="By the hour",
    not_sent="not sent",
    busiest="most at {hour}: {messages}",
    mailings="Mailings",
    no_mailing="No mailing was at work.",
    quote="“{text}”",
    more="and {mailings} more with {messages} messages",
    all_done="all {planned} planned messages are done",
    nothing_planned="nothing planned",
    still_to_go="{open} of {planned} planned messages still to go",
    went_wrong="What went wrong",
    other_reasons="other reasons",
    no_reason="no reason given",
    altogether="All mailings together, as of {moment}",
    attached="The attached table has a line for every mailing.",
)

RU = Words(
    language="ru",
    months=(
        *("января", "февраля", "марта", "апреля", "мая", "июня", "июля"),
        *("августа", "сентября", "октября", "ноября", "декабря"),
    ),
    weekdays=("понедельник", "вторник", "среда", "четверг", "пятница", "суббота", "воскресенье"),
    date="{day} {month} {year}\u00a0г.",
    statuses={
        "planned": "всего",
        "pending": "ожидает",
        "sending": "в отправке",
        "sent": "отправлено",
        "failed": "не принято",
        "expired": "просрочено",
        "unknown": "неизвестно",
        "cancelled": "отменено",
    },
    meanings={
        "sent": "принято шлюзом",
        "failed": "шлюз отказал",
        "expired": "не отправлено до конца рассылки",
        "unknown": "нельзя узнать, дошло ли сообщение",
        "cancelled": "остановлено до отправки",
    },
    mailing_statuses={
        "draft": "черновик",
        "scheduled": "запланирована",
        "running": "идёт",
        "paused": "приостановлена",
        "finished": "завершена",
        "cancelled": "отменена",
        "deleted": "удалена",
    },
    reasons={
        "the mailing was cancelled or the client left while it was being sent": "рассылка отменена или клиент удалён",
        "the mailing's end was reached": "рассылка закончилась",
        r"no opening of (\S+) in (\S+) before the mailing's end": r"окно \1 (\2) не открылось до конца рассылки",
        r"the local hours of (\S+) are not known": r"местное время \1 неизвестно",
        "the mailing was cancelled": "рассылка отменена",
        "the mailing was deleted": "рассылка удалена",
        "the client was deleted": "клиент удалён",
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
    title="Отчёт о рассылках",
    subject="Отчёт о рассылках за {date}: {news}",
    heading="Отчёт о рассылках за {date}, {weekday}",
    not_over="день ещё не закончился",
    zone="Часовой пояс {zone}: {span}",
    span="с {starts} до {ends} UTC",
    not_plain="Не обычные сутки, а с {starts} до {ends} по местному времени: часовой пояс отчётов изменён.",
    of_the_day="Сообщения, завершённые в этот день",
    so_far="Сообщения, завершённые в этот день, который ещё не закончился",
    by_hour="По часам",
    not_sent="не отправлено",
    busiest="больше всего в {hour}: {messages}",
    mailings="Рассылки",
    no_mailing="Ни одна рассылка не работала.",
    quote="«{text}»",
    more="и ещё рассылок: {mailings}, сообщений в них: {messages}",
    all_done="все запланированные сообщения обработаны: {planned}",
    nothing_planned="ничего не запланировано",
    still_to_go="осталось {open} из {planned}",
    went_wrong="Что не удалось",
    other_reasons="другие причины",
    no_reason="причина не указана",
    altogether="Все рассылки вместе на {moment}",
    attached="В приложенной таблице — по строке на каждую рассылку.",
)

LANGUAGES = {words.language: words for words in (EN, RU)}
