"""Render the report as plain text: aligned for a fixed-width font, lines of at most WIDTH characters."""

from collections.abc import Iterator, Sequence
from textwrap import wrap

from mailing.reports.figures import Figures, MailingFigures
from mailing.reports.formatting import (
    by_status,
    day_in_words,
    delivery_note,
    excerpt,
    grouped,
    hour,
    is_over,
    moment,
    omitted_note,
    period_note,
    progress,
    reason_in_words,
    span_in_utc,
    top_mailings,
    weekday,
)
from mailing.reports.translations import Words

WIDTH = 76
BAR = 40


def render_text(figures: Figures, words: Words) -> str:
    blocks = [_heading, _day, _hours, _mailings, _reasons, _totals, _attached]
    texts = ["\n".join(block(figures, words)) for block in blocks]
    return "\n\n".join(text for text in texts if text) + "\n"


def _heading(figures: Figures, words: Words) -> list[str]:
    day = figures.day
    title = words.heading.format(weekday=weekday(day.date, words), date=day_in_words(day.date, words))
    zone = words.zone.format(zone=day.zone, span=span_in_utc(figures, words))
    return [title, "=" * len(title), zone, *wrap(period_note(figures, words), WIDTH)]


def _day(figures: Figures, words: Words) -> list[str]:
    rows = [
        [words.statuses[status], grouped(number), words.meanings[status]]
        for status, number in by_status(figures.ended).items()
    ]
    title = wrap(words.of_the_day if is_over(figures) else words.so_far, WIDTH)
    return [*title, *_aligned(rows, right={1}), *wrap(delivery_note(figures, words), WIDTH)]


def _hours(figures: Figures, words: Words) -> list[str]:
    """Chart the hours in which a message ended: # for sent, - for not sent."""
    if not figures.busiest_hour:
        return []
    bars = ["#" * _share(each.sent, figures) + "-" * _share(each.not_sent, figures) for each in figures.hours]
    rows = [
        [hour(figures, each.number), grouped(each.sent + each.not_sent), bar]
        for each, bar in zip(figures.hours, bars, strict=True)
    ]
    return [f"{words.by_hour}: # {words.statuses['sent']}, - {words.not_sent}", *_aligned(rows, right={1})]


def _share(number: int, figures: Figures) -> int:
    """Scale to characters, rounded up: a single message is visible."""
    return -(-number * BAR // figures.busiest_hour)


def _mailings(figures: Figures, words: Words) -> list[str]:
    if not figures.mailings:
        return [words.no_mailing]
    statuses = [words.statuses[status] for status in by_status(figures.ended)]
    shown = top_mailings(figures)
    rows = [["", *statuses], *([f"#{each.id}", *map(grouped, by_status(each.ended).values())] for each in shown)]
    head, *lines = _aligned(rows, right=set(range(1, 6)))
    explained = _explained(lines, shown, words)
    return [words.mailings, head, *explained, *_indented(omitted_note(figures, words))]


def _explained(lines: Sequence[str], mailings: Sequence[MailingFigures], words: Words) -> Iterator[str]:
    for line, mailing in zip(lines, mailings, strict=True):
        yield line
        yield from _indented(progress(mailing, words), "    ")
        yield from _indented(words.quote.format(text=excerpt(mailing.text, WIDTH - 6)), "    ")


def _reasons(figures: Figures, words: Words) -> list[str]:
    if not figures.reasons:
        return []
    rows = [
        [grouped(each.messages), words.statuses[each.status], reason_in_words(each.reason, words)]
        for each in figures.reasons
    ]
    if figures.other_reasons:
        rows.append([grouped(figures.other_reasons), "", words.other_reasons])
    starts = _aligned([row[:2] for row in rows], right={0})
    return [words.went_wrong, *_hanging(starts, [row[2] for row in rows])]


def _totals(figures: Figures, words: Words) -> list[str]:
    rows = [[words.statuses[status], grouped(number)] for status, number in by_status(figures.totals).items()]
    when = moment(figures.taken_at, figures.day.zone)
    return [words.altogether.format(moment=when), *_aligned(rows, right={1})]


def _attached(figures: Figures, words: Words) -> list[str]:
    return [words.attached] if figures.mailings else []


def _aligned(rows: Sequence[Sequence[str]], *, right: set[int]) -> list[str]:
    """Align columns, two spaces before each; those in `right` are numbers."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    columns = "".join(f"  {{:{'>' if i in right else '<'}{width}}}" for i, width in enumerate(widths))
    return [columns.format(*row).rstrip() for row in rows]


def _indented(sentence: str, indent: str = "  ") -> list[str]:
    return wrap(sentence, WIDTH, initial_indent=indent, subsequent_indent=indent)


def _hanging(starts: Sequence[str], sentences: Sequence[str]) -> Iterator[str]:
    """Wrap each sentence beside its start."""
    width = max(len(start) for start in starts) + 2
    for start, sentence in zip(starts, sentences, strict=True):
        first, *more = wrap(sentence, WIDTH - width)
        yield start.ljust(width) + first
        yield from (" " * width + line for line in more)
