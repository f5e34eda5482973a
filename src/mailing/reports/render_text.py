"""The report as plain text: aligned in a fixed-width font, no line longer than a mail program likes."""

from collections.abc import Iterator, Sequence
from textwrap import wrap

from mailing.reports.figures import Figures, MailingFigures
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

WIDTH = 76


def plain(figures: Figures) -> str:
    blocks = [_heading(figures), _day(figures), _mailings(figures), _reasons(figures), _standing(figures)]
    return "\n\n".join("\n".join(block) for block in blocks if block) + "\n"


def _heading(figures: Figures) -> list[str]:
    day = figures.day
    title = f"Mailing report for {day.date:%A}, {day_in_words(day.date)}"
    return [title, "=" * len(title), f"Time zone {day.zone}: {span_in_utc(figures)}"]


def _day(figures: Figures) -> list[str]:
    rows = [[status, grouped(number), MEANINGS[status]] for status, number in by_status(figures.ended).items()]
    return [
        *wrap("Messages that ended on this day" + ("" if is_over(figures) else ", which is not over yet"), WIDTH),
        *_aligned(rows, right={1}),
    ]


def _mailings(figures: Figures) -> list[str]:
    if not figures.mailings:
        return ["No mailing was at work."]
    statuses = list(MEANINGS)
    rows = [["", *statuses], *([f"#{mailing.id}", *_numbers(mailing)] for mailing in shown(figures))]
    head, *lines = _aligned(rows, right=set(range(1, 6)))
    return ["By mailing", head, *_explained(lines, shown(figures)), *_indented(left_out(figures))]


def _numbers(mailing: MailingFigures) -> list[str]:
    return [grouped(number) for number in by_status(mailing.ended).values()]


def _explained(lines: Sequence[str], mailings: Sequence[MailingFigures]) -> Iterator[str]:
    for line, mailing in zip(lines, mailings, strict=True):
        yield line
        yield from _indented(f"{mailing.status}, {left_to_do(mailing)}", "    ")
        yield from _indented(f"“{excerpt(mailing.text, WIDTH - 6)}”", "    ")


def _reasons(figures: Figures) -> list[str]:
    if not figures.reasons:
        return []
    rows = [[grouped(each.messages), each.status, each.reason] for each in figures.reasons]
    if figures.other_reasons:
        rows.append([grouped(figures.other_reasons), "", "other reasons"])
    starts = _aligned([row[:2] for row in rows], right={0})
    return ["What went wrong", *_hanging(starts, [one_line(row[2]) or "no reason given" for row in rows])]


def _standing(figures: Figures) -> list[str]:
    rows = [[status, grouped(number)] for status, number in by_status(figures.standing).items()]
    when = moment(figures.taken_at, figures.day.zone)
    return [f"All mailings together, as of {when}", *_aligned(rows, right={1})]


def _aligned(rows: Sequence[Sequence[str]], *, right: set[int]) -> list[str]:
    """Columns of equal width, two spaces before each; those in `right` are numbers."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return [
        "".join(_cell(*each, i in right) for i, each in enumerate(zip(row, widths, strict=True))).rstrip()
        for row in rows
    ]


def _cell(cell: str, width: int, right: bool) -> str:
    return "  " + (cell.rjust(width) if right else cell.ljust(width))


def _indented(sentence: str, indent: str = "  ") -> list[str]:
    return wrap(sentence, WIDTH, initial_indent=indent, subsequent_indent=indent)


def _hanging(starts: Sequence[str], sentences: Sequence[str]) -> Iterator[str]:
    """Each sentence wrapped beside its start."""
    width = max(len(start) for start in starts) + 2
    for start, sentence in zip(starts, sentences, strict=True):
        first, *more = wrap(sentence, WIDTH - width)
        yield start.ljust(width) + first
        yield from (" " * width + line for line in more)
