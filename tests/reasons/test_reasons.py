"""Reasons are codes wherever a program reads them, and words only where a person does."""

import ast
import re
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from string import Formatter

import pytest

from mailing.reasons.codes import Fact, Reason, ReasonCode, words_of
from mailing.reasons.refusals import Refusal, RefusalCode
from mailing.translations import LANGUAGES, PACKAGE
from support import ROOT
from support.database import Database

SCHEMA = ROOT / "migrations" / "versions" / "0002_mailing.sql"
PARAMS: dict[str, Fact] = {
    "http_status": 503,
    "code": 5,
    "within_s": 0.4,
    "max_bytes": 65536,
    "max_length": 1000,
    "errno": "EMFILE",
    "error": "23514",
    "timezone": "Asia/Omsk",
    "start": "09:00",
    "end": "21:00",
    "word": "STOP",
}
# What a statement may hold of several words between quotes: amounts of time, and the names of columns or settings.
NO_SENTENCE = re.compile(r"'\d+(\.\d+)? \w+'|'\{[\w,]+\}'")


@pytest.mark.parametrize(("domain", "codes"), [("reason_code", ReasonCode), ("refusal_code", RefusalCode)])
async def test_the_schema_has_the_codes_of_the_enum(db: Database, domain: str, codes: type[StrEnum]) -> None:
    check = await db.value(
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE contypid = CAST(:domain AS regtype)", domain=domain
    )
    assert re.findall(r"'(\w+)'::text", check) == list(codes)


def test_every_code_has_words_without_a_gap_in_both_languages() -> None:
    told = {language: {words_of(Reason(code, PARAMS), language) for code in ReasonCode} for language in LANGUAGES}
    assert [words for each in told.values() for words in each if "…" in words or "{" in words] == []
    assert {language: len(each) for language, each in told.items()} == dict.fromkeys(LANGUAGES, len(ReasonCode))
    assert told["en"] & told["ru"] == {"HTTP 503"}


def test_both_languages_name_the_same_parameters() -> None:
    for code in ReasonCode:
        named = {name for _, name, _, _ in Formatter().parse(code.english) if name}
        assert named <= PARAMS.keys()
        given = Reason(code, {name: f"<{name}>" for name in named})
        assert {name for name in named if f"<{name}>" in words_of(given, "ru")} == named


@pytest.mark.parametrize("code", RefusalCode)
def test_every_refusal_has_words_with_the_same_parameters_in_both_languages(code: RefusalCode) -> None:
    names = re.findall(r"%\((\w+)\)s", code.english)
    told = [Refusal(code, {name: f"<{name}>" for name in names}).words(language) for language in LANGUAGES]
    assert len({*told}) == len(LANGUAGES)
    assert all(f"<{name}>" in words for name in names for words in told)
    assert not any("%(" in words for words in told)


@pytest.mark.parametrize("code", ReasonCode)
def test_words_never_fail_for_a_row_without_parameters(code: ReasonCode) -> None:
    assert words_of(Reason(code)).isprintable()


def test_the_reason_of_the_newest_attempt_stands_behind() -> None:
    closed = Reason(ReasonCode.end_reached)
    assert words_of(closed.after(None)) == "the mailing's end was reached"
    late = closed.after(Reason(ReasonCode.no_answer, {"within_s": 10}))
    assert words_of(late) == "the mailing's end was reached; no answer within 10 s"
    assert words_of(late, "ru") == "рассылка закончилась; нет ответа за 10 с"
    assert words_of(None) == ""


def statements() -> Iterator[tuple[str, str]]:
    """Every SQL text of the product, with its place, without comments and the texts of exceptions."""
    for_people = r"COMMENT ON .*?';|--[^\n]*|RAISE EXCEPTION '[^']*'"
    yield SCHEMA.name, re.sub(for_people, "", SCHEMA.read_text(encoding="utf-8"), flags=re.DOTALL)
    for path in sorted(PACKAGE.rglob("*.py")):
        for text in _texts(path):
            if re.search(r"\b(SELECT|UPDATE|INSERT INTO|DELETE FROM|CASE WHEN)\b", text):
                yield f"{path.relative_to(PACKAGE)}: {text.strip()[:60]}", re.sub(for_people, "", text)


def _texts(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "x" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_no_statement_holds_a_sentence() -> None:
    sentences = [
        (place, quoted)
        for place, text in statements()
        for quoted in re.findall(r"'(?:[^'\n]|'')*'", re.sub(NO_SENTENCE, "''", text))
        if re.search(r"[a-z]+ [a-z]+ [a-z]+", quoted) and not re.search(r"\b(SELECT|FROM|AS)\b", quoted)
    ]
    assert sentences == []


def test_a_statement_names_only_codes_that_there_are() -> None:
    named = set()
    for _, text in statements():
        named |= set(re.findall(r"reason_code = '(\w+)'", text))
        for case in re.findall(r"reason_code = CASE(.*?)END,", text, flags=re.DOTALL):
            named |= set(re.findall(r"(?:THEN|ELSE) '(\w+)'", case))
    assert named <= set(ReasonCode)
    assert {"unselected", "stopped_while_sending", "restored", "worker_lost", "person_erased"} <= named
