"""The report as HTML for mail programs: one column, styles only on the elements, nothing to load.

No background is set and the colours of the figures are in the middle, so it reads on white and on black; what does not
fit side by side on a phone moves below. Every value is escaped where it is put in.
"""

from html import escape

from mailing.reports.figures import DayCounts, Figures, MailingFigures, Reason
from mailing.reports.formatting import (
    by_status,
    day_in_words,
    excerpt,
    grouped,
    hour,
    is_over,
    moment,
    omitted_note,
    period_note,
    progress,
    span_in_utc,
    top_mailings,
    translate_reason,
    weekday,
)
from mailing.reports.render_chart import bar, columns
from mailing.reports.translations import Words

# each has a contrast of 4.3 : 1 both to white and to the #121212 of dark mode; no colour has more to both
_COLOURS = {"sent": "#1d8b50", "failed": "#d84638", "expired": "#a86c0a", "unknown": "#995dd0", "cancelled": "#747a83"}
_FONT = "font-family:-apple-system,'Segoe UI',Roboto,Helvetica,Arial,sans-serif"
_QUIET = "opacity:.72;font-size:14px"
_GREEN, _RED = _COLOURS["sent"], _COLOURS["failed"]
_RULE = "border-top:1px solid rgba(128,128,128,.35)"
_NUMBER = "text-align:right;white-space:nowrap;vertical-align:top;font-variant-numeric:tabular-nums"


def render_html(figures: Figures, words: Words, *, title: str) -> str:
    blocks = (_heading, _tiles, _hours, _mailings, _reasons, _standing)
    content = "\n".join(block(figures, words) for block in blocks)
    return (
        f'<!doctype html><html lang="{words.language}" style="color-scheme:light dark"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><meta name="supported-color-schemes" content="light dark">'
        f"<title>{escape(title)}</title></head>"
        f'<body style="margin:0;padding:0;{_FONT};font-size:16px;line-height:1.45">\n'
        f'<div style="max-width:640px;margin:0 auto;padding:24px 16px 32px">\n{content}\n</div>\n</body></html>\n'
    )


def _heading(figures: Figures, words: Words) -> str:
    day = figures.day
    period = "<br>".join(
        filter(None, (escape(day.zone), span_in_utc(figures, words), escape(period_note(figures, words))))
    )
    so_far = "" if is_over(figures) else f" · {words.not_over}"
    return (
        f'<p style="margin:0;{_QUIET}">{words.title}{so_far}</p>'
        f'<h1 style="margin:2px 0 4px;font-size:24px;line-height:1.25;font-weight:600">'
        f"{weekday(day.date, words).capitalize()}, {day_in_words(day.date, words)}</h1>"
        f'<p style="margin:0 0 20px;{_QUIET}">{period}</p>'
    )


def _tiles(figures: Figures, words: Words) -> str:
    tiles = (_tile(status, number, words) for status, number in by_status(figures.ended).items())
    return f"<div>{''.join(tiles)}</div>"


def _tile(status: str, number: int, words: Words) -> str:
    """A zero is no news: it keeps its place without its colour."""
    look = f"color:{_COLOURS[status]}" if number else "opacity:.45"
    return (
        f'<div style="display:inline-block;vertical-align:top;min-width:92px;margin:0 16px 12px 0" '
        f'title="{words.meanings[status]}"><div style="font-size:26px;line-height:1.2;font-weight:600;{look}">'
        f'{grouped(number)}</div><div style="{_QUIET}">{words.statuses[status]}</div></div> '
    )


def _hours(figures: Figures, words: Words) -> str:
    if not figures.hours:
        return ""
    legend = f"{_key(_GREEN, words.statuses['sent'])} {_key(_RED, words.not_sent)}"
    peak = next(each for each in figures.hours if each.sent + each.not_sent == figures.busiest_hour)
    most = words.busiest.format(hour=hour(figures, peak.number), messages=grouped(figures.busiest_hour))
    described = f'<p style="margin:0 0 8px;font-size:14px">{legend} <span style="{_QUIET}">{most}</span></p>'
    return _section(words.by_hour, described + columns(figures, sent=_GREEN, not_sent=_RED))


def _key(colour: str, label: str) -> str:
    return f'<span style="white-space:nowrap;margin-right:12px"><span style="color:{colour}">■</span> {label}</span>'


def _mailings(figures: Figures, words: Words) -> str:
    if not figures.mailings:
        return _section(words.mailings, f'<p style="margin:0;{_QUIET}">{words.no_mailing}</p>')
    notes = filter(None, (omitted_note(figures, words), words.attached))
    more = f'<p style="margin:0;padding:10px 0;{_RULE};{_QUIET}">{"<br>".join(notes)}</p>'
    return _section(words.mailings, "\n".join(_mailing(mailing, words) for mailing in top_mailings(figures)) + more)


def _mailing(mailing: MailingFigures, words: Words) -> str:
    numbers = [_counted(status, number, words) for status, number in by_status(mailing.ended).items() if number]
    return (
        f'<div style="padding:10px 0;{_RULE}">'
        f'<div style="overflow-wrap:anywhere"><b style="font-weight:600">#{mailing.id}</b> '
        f"{escape(excerpt(mailing.text, 100))}</div>"
        f"<div>{' '.join(numbers)}</div>{_shares(mailing.ended)}"
        f'<div style="{_QUIET}">{escape(progress(mailing, words))}</div></div>'
    )


def _shares(ended: DayCounts) -> str:
    return bar((number, _COLOURS[status]) for status, number in by_status(ended).items())


def _counted(status: str, number: int, words: Words) -> str:
    return (
        f'<span style="display:inline-block;margin-right:12px;white-space:nowrap">'
        f'<b style="font-weight:600;color:{_COLOURS[status]}">{grouped(number)}</b> {words.statuses[status]}</span>'
    )


def _reasons(figures: Figures, words: Words) -> str:
    if not figures.reasons:
        return ""
    rows = [_reason(each, words) for each in figures.reasons]
    if figures.other_reasons:
        rows.append(_row(grouped(figures.other_reasons), words.other_reasons))
    return _section(words.went_wrong, _table(rows))


def _reason(each: Reason, words: Words) -> str:
    status = f'<b style="font-weight:600;color:{_COLOURS[each.status]}">{words.statuses[each.status]}</b>'
    return _row(grouped(each.messages), f"{status} {escape(translate_reason(each.reason, words))}")


def _standing(figures: Figures, words: Words) -> str:
    rows = [_row(grouped(number), words.statuses[status]) for status, number in by_status(figures.totals).items()]
    return _section(words.altogether.format(moment=moment(figures.taken_at, figures.day.zone)), _table(rows))


def _section(title: str, content: str) -> str:
    return f'<h2 style="margin:20px 0 8px;font-size:17px;font-weight:600">{title}</h2>\n{content}'


def _table(rows: list[str]) -> str:
    return (
        '<table role="presentation" cellpadding="0" cellspacing="0" style="border-collapse:collapse;font-size:16px">'
        f"{''.join(rows)}</table>"
    )


def _row(number: str, label: str) -> str:
    """`label` is HTML."""
    return (
        f'<tr><td style="{_NUMBER};padding:2px 12px 2px 0;font-weight:600">{number}</td>'
        f'<td style="padding:2px 0;overflow-wrap:anywhere">{label}</td></tr>'
    )
