"""The report as HTML for mail programs: one column, styles only on the elements, nothing to load.

No background is set and the colours of the figures are in the middle, so it reads on white and on black; what does not
fit side by side on a phone moves below. Every value is escaped where it is put in.
"""

from html import escape

from mailing.reports.figures import Figures, MailingFigures, Reason
from mailing.reports.wording import (
    MEANINGS,
    by_status,
    day_in_words,
    excerpt,
    grouped,
    is_over,
    left_out,
    left_to_do,
    moment,
    one_line,
    shown,
    span_in_utc,
)

# each has a contrast of 4.3 : 1 both to white and to the #121212 of dark mode; no colour has more to both
_COLOURS = {"sent": "#1d8b50", "failed": "#d84638", "expired": "#a86c0a", "unknown": "#995dd0", "cancelled": "#747a83"}
_FONT = "font-family:-apple-system,'Segoe UI',Roboto,Helvetica,Arial,sans-serif"
_QUIET = "opacity:.72;font-size:14px"
_RULE = "border-top:1px solid rgba(128,128,128,.35)"
_NUMBER = "text-align:right;white-space:nowrap;vertical-align:top;font-variant-numeric:tabular-nums"


def page(figures: Figures, *, title: str) -> str:
    return (
        '<!doctype html><html lang="en" style="color-scheme:light dark"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><meta name="supported-color-schemes" content="light dark">'
        f"<title>{escape(title)}</title></head>"
        f'<body style="margin:0;padding:0;{_FONT};font-size:16px;line-height:1.45">\n'
        '<div style="max-width:640px;margin:0 auto;padding:24px 16px 32px">\n'
        f"{_heading(figures)}\n{_tiles(figures)}\n{_mailings(figures)}\n{_reasons(figures)}\n{_standing(figures)}\n"
        "</div>\n</body></html>\n"
    )


def _heading(figures: Figures) -> str:
    day = figures.day
    so_far = "" if is_over(figures) else " · not over yet"
    return (
        f'<p style="margin:0;{_QUIET}">Mailing report{so_far}</p>'
        f'<h1 style="margin:2px 0 4px;font-size:24px;line-height:1.25;font-weight:600">'
        f"{day.date:%A}, {day_in_words(day.date)}</h1>"
        f'<p style="margin:0 0 20px;{_QUIET}">{escape(day.zone)}<br>{span_in_utc(figures)}</p>'
    )


def _tiles(figures: Figures) -> str:
    return f"<div>{''.join(_tile(status, number) for status, number in by_status(figures.ended).items())}</div>"


def _tile(status: str, number: int) -> str:
    """A zero is no news: it keeps its place without its colour."""
    look = f"color:{_COLOURS[status]}" if number else "opacity:.45"
    return (
        f'<div style="display:inline-block;vertical-align:top;min-width:92px;margin:0 16px 12px 0" '
        f'title="{MEANINGS[status]}"><div style="font-size:26px;line-height:1.2;font-weight:600;{look}">'
        f'{grouped(number)}</div><div style="{_QUIET}">{status}</div></div> '
    )


def _mailings(figures: Figures) -> str:
    if not figures.mailings:
        return _section("Mailings", f'<p style="margin:0;{_QUIET}">No mailing was at work.</p>')
    more = f'<p style="margin:0;padding:10px 0;{_RULE};{_QUIET}">{left_out(figures)}</p>' if left_out(figures) else ""
    return _section("Mailings", "\n".join(_mailing(mailing) for mailing in shown(figures)) + more)


def _mailing(mailing: MailingFigures) -> str:
    numbers = [_counted(status, number) for status, number in by_status(mailing.ended).items() if number]
    return (
        f'<div style="padding:10px 0;{_RULE}">'
        f'<div style="overflow-wrap:anywhere"><b style="font-weight:600">#{mailing.id}</b> '
        f"{escape(excerpt(mailing.text, 100))}</div>"
        f"<div>{' '.join(numbers)}</div>"
        f'<div style="{_QUIET}">{escape(mailing.status)}, {left_to_do(mailing)}</div></div>'
    )


def _counted(status: str, number: int) -> str:
    return (
        f'<span style="display:inline-block;margin-right:12px;white-space:nowrap">'
        f'<b style="font-weight:600;color:{_COLOURS[status]}">{grouped(number)}</b> {status}</span>'
    )


def _reasons(figures: Figures) -> str:
    if not figures.reasons:
        return ""
    rows = [_reason(each) for each in figures.reasons]
    if figures.other_reasons:
        rows.append(_row(grouped(figures.other_reasons), "other reasons"))
    return _section("What went wrong", _table(rows))


def _reason(each: Reason) -> str:
    said = escape(one_line(each.reason)) or "no reason given"
    return _row(
        grouped(each.messages), f'<b style="font-weight:600;color:{_COLOURS[each.status]}">{each.status}</b> {said}'
    )


def _standing(figures: Figures) -> str:
    rows = [_row(grouped(number), status) for status, number in by_status(figures.standing).items()]
    return _section(f"All mailings together, as of {moment(figures.taken_at, figures.day.zone)}", _table(rows))


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
