import csv
import io
import re
from datetime import date, datetime, timedelta
from html.parser import HTMLParser
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from mailing.mailings.counts import Counts
from mailing.reasons.codes import Reason, ReasonCode
from mailing.reports.figures import DayCounts, Figures, Hour, MailingFigures, ReasonCount
from mailing.reports.render import Rendered
from mailing.reports.render import render as rendered_in
from mailing.reports.schedule import day_of
from mailing.reports.translations import Words, words_in
from mailing.translations import LANGUAGES

EN, RU = map(words_in, ("en", "ru"))
DAY = day_of(date(2024, 1, 5), ZoneInfo("Europe/Moscow"))
SPACE = "\u202f"
STANDING = Counts(planned=12345, pending=12000, sending=0, sent=345, failed=0, expired=0, unknown=0, cancelled=0)


REFUSED = Reason(ReasonCode.http_status, {"http_status": 400})


def render(figures: Figures, words: Words = EN) -> Rendered:
    return rendered_in(figures, words)


def report(
    *mailings: MailingFigures,
    reasons: tuple[ReasonCount, ...] = (),
    hours: tuple[Hour, ...] = (),
    taken_at: datetime = DAY.ends + timedelta(hours=9),
) -> Figures:
    return Figures(DAY, taken_at, list(mailings), STANDING, list(reasons), list(hours))


def mailing(
    text: str = "Hello", number: int = 1, ended: DayCounts | None = None, status: str = "running"
) -> MailingFigures:
    return MailingFigures(number, text, status, ended or DayCounts(sent=1234567, failed=3), STANDING)


class Reader(HTMLParser):
    """What a reader sees, and every tag there is."""

    def __init__(self) -> None:
        super().__init__()
        self.words = ""
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del attrs
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.words += data


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    return reader


def test_the_subject_says_the_day_and_what_became_of_the_messages() -> None:
    assert render(report(mailing())).subject == "Mailing report for 5 January 2024: 1\u202f234\u202f567 sent, 3 failed"
    assert render(report()).subject == "Mailing report for 5 January 2024: 0 sent"


def test_both_forms_name_the_day_its_zone_and_its_instants() -> None:
    rendered = render(report(mailing()))
    for form in (rendered.text, read(rendered.html).words):
        assert "Friday, 5 January 2024" in form
        assert "Europe/Moscow" in form
        assert "2024-01-04 21:00 to 2024-01-05 21:00 UTC" in form
        assert "as of 2024-01-06 09:00" in form
        assert "1\u202f234\u202f567" in form
        assert "12\u202f000 of 12\u202f345 planned messages still to go" in form


def test_a_day_that_is_not_over_is_said_to_be_so() -> None:
    rendered = render(report(taken_at=DAY.starts + timedelta(hours=3)))
    assert "not over yet" in rendered.text
    assert "not over yet" in rendered.html


def test_a_text_can_add_no_markup() -> None:
    bad = "<script>alert('1')</script><img src=x onerror=\"alert(2)\">&amp;"
    failed = ReasonCount("failed", Reason(ReasonCode.not_claimable, {"error": bad}), 3)
    html = render(report(mailing(bad), reasons=(failed,))).html
    assert not read(html).tags & {"script", "img"}
    assert html.count("&lt;script&gt;") == 2
    assert bad in read(html).words


def test_the_html_loads_nothing_and_needs_no_style_sheet() -> None:
    html = render(report(mailing())).html
    assert not read(html).tags & {"style", "link", "script", "img", "a", "iframe"}
    assert not re.search(r"https?:|url\(|src=|class=", html)


def test_numbers_stand_in_columns() -> None:
    text = render(report(mailing(), mailing(number=1000, ended=DayCounts(sent=5, cancelled=12000)))).text
    lines = text.splitlines()
    head = next(line for line in lines if "sent  " in line and "cancelled" in line)
    first, second = (next(line for line in lines if line.startswith(start)) for start in ("  #1 ", "  #1000"))
    assert first.index("567") + 3 == head.index("sent") + 4 == second.index(" 5 ") + 2
    assert len(first) == len(second) == len(head)


def test_what_is_invisible_or_turns_the_direction_of_writing_is_left_out() -> None:
    rendered = render(report(mailing("one\r\ntwo\u202ethree\u0000 four\u2028five")))
    assert "one two three four five" in rendered.text
    assert "one two three four five" in rendered.html


def test_of_many_mailings_the_busiest_are_shown_and_the_others_summed_up() -> None:
    rendered = render(report(*(mailing(f"text {n}", n, DayCounts(sent=n)) for n in range(1, 61))))
    for form in (rendered.text, read(rendered.html).words):
        assert "and 10 more with 55 messages" in form
        assert "text 10" not in form
        assert "text 11" in form


def test_other_reasons_are_counted() -> None:
    figures = report(mailing(ended=DayCounts(failed=5)), reasons=(ReasonCount("failed", REFUSED, 3),))
    assert re.search(r"2 +other reasons", render(figures).text)
    assert "other reasons" in render(figures).html


def test_reasons_are_told_in_the_language() -> None:
    closed = Reason(ReasonCode.no_window, {"timezone": "Asia/Omsk", "start": "09:00", "end": "21:00"})
    told = (
        ReasonCount("expired", closed.after(Reason(ReasonCode.no_answer, {"within_s": 10})), 3),
        ReasonCount("failed", REFUSED, 1),
    )
    rendered = render(report(reasons=told), RU)
    closed_told = "окно 09:00–21:00 (Asia/Omsk) не открылось до конца рассылки; нет ответа за 10 с"
    for form in (rendered.text, read(rendered.html).words):
        assert closed_told in " ".join(form.split())
        assert "HTTP 400" in form


def test_the_russian_report_has_no_english_word_of_ours() -> None:
    figures = report(
        mailing("Привет", status="finished"),
        reasons=(ReasonCount("failed", None, 3),),
        hours=(Hour(9, 5, 3),),
        taken_at=DAY.starts + timedelta(hours=3),
    )
    rendered = render(figures, RU)
    counts = f"1{SPACE}234{SPACE}567 отправлено, 3 не принято"
    assert rendered.subject == f"Отчёт о рассылках за 5 января 2024\u00a0г.: {counts}"
    assert "Пятница, 5 января 2024" in read(rendered.html).words
    for form in (rendered.text, read(rendered.html).words):
        assert set(re.findall("[A-Za-z]{2,}", form)) == {"Europe", "Moscow", "UTC"}


def test_every_language_has_a_word_for_every_state() -> None:
    for words in map(words_in, LANGUAGES):
        assert set(words.statuses) == set(Counts.__struct_fields__)
        assert set(words.meanings) == set(DayCounts.__struct_fields__)


def test_the_chart_has_a_column_for_each_hour_and_the_busiest_is_the_highest() -> None:
    html = render(report(mailing(), hours=(Hour(0, 1, 0), Hour(10, 60, 12), Hour(23, 1000, 0)))).html
    assert html.count('valign="bottom"') == 24
    assert re.findall(r'height="(\d+)" bgcolor', html.split("Mailings")[0]) == ["1", "1", "5", "72"]
    assert "most at 23:00: 1\u202f000" in read(html).words


@pytest.mark.parametrize(
    ("day", "hours", "clocks"),
    [
        (date(2024, 3, 31), 23, ["00:00", "07:00", "13:00", "19:00"]),
        (date(2024, 10, 27), 25, ["00:00", "05:00", "11:00", "17:00", "23:00"]),
    ],
)
def test_a_day_with_a_clock_change_has_the_hours_that_passed(day: date, hours: int, clocks: list[str]) -> None:
    changed = day_of(day, ZoneInfo("Europe/Berlin"))
    html = render(Figures(changed, changed.ends, [], STANDING, [], [Hour(4, 1, 1)])).html
    assert html.count('valign="bottom"') == hours
    assert re.findall(r">(\d\d:\d\d)<", html) == clocks


def test_the_text_draws_the_hours_too() -> None:
    text = render(report(mailing(), hours=(Hour(8, 10, 10), Hour(9, 1, 0)))).text
    assert f"  08:00  20  {'#' * 20}{'-' * 20}\n  09:00   1  ##\n" in text


def test_the_table_has_a_line_for_every_mailing_and_nothing_to_calculate() -> None:
    texts = ["=1+1", "\t=1+1", "@SUM(A1)", "-2", "+7", "＝1", "go;=1", 'plain, "quoted"\nand broken']
    figures = report(*(mailing(text, n) for n, text in enumerate(texts, 1)), *(mailing(number=n) for n in range(9, 99)))
    table = render(figures).mailings_csv
    assert table.startswith("\ufeffmailing_id,text,status,sent_that_day,failed_that_day,")
    rows = list(csv.DictReader(io.StringIO(table.removeprefix("\ufeff"), newline="")))
    assert [row["mailing_id"] for row in rows] == [str(n) for n in range(1, 99)]
    assert [row["text"] for row in rows[:7]] == ["'=1+1", "'=1+1", "'@SUM(A1)", "'-2", "'+7", "'＝1", "go;'=1"]
    assert rows[7]["text"] == 'plain, "quoted" and broken'
    assert (rows[0]["sent_that_day"], rows[0]["failed_that_day"], rows[0]["planned"]) == ("1234567", "3", "12345")


numbers = st.integers(0, 99_999_999)
mailings = st.builds(
    MailingFigures,
    id=st.integers(1, 99_999_999),
    text=st.text(max_size=200),
    status=st.sampled_from(["running", "deleted"]),
    ended=st.builds(DayCounts, sent=numbers, failed=numbers, expired=numbers, unknown=numbers, cancelled=numbers),
    totals=st.builds(replace, st.just(STANDING), planned=numbers, pending=numbers),
)
reasons = st.builds(
    ReasonCount,
    status=st.sampled_from(["failed", "expired", "unknown"]),
    reason=st.builds(Reason, st.sampled_from(ReasonCode), st.fixed_dictionaries({"error": st.text(max_size=200)})),
    messages=numbers,
)


@settings(max_examples=60)
@given(mailings=st.lists(mailings, max_size=3), reasons=st.lists(reasons, max_size=3), words=st.sampled_from([EN, RU]))
def test_whatever_the_texts_are_lines_stay_whole_and_short(
    mailings: list[MailingFigures], reasons: list[ReasonCount], words: Words
) -> None:
    rendered = render(report(*mailings, reasons=tuple(reasons), hours=(Hour(7, 3, 1),)), words)
    spaces = str.maketrans(SPACE + "\u00a0", "  ")
    assert rendered.subject.translate(spaces).isprintable()
    assert all(line.translate(spaces).isprintable() and len(line) <= 78 for line in rendered.text.split("\n"))
    assert read(rendered.html).tags <= {
        *("html", "head", "meta", "title", "body", "div", "p", "h1", "h2", "b", "br", "span", "table", "tr", "td")
    }
