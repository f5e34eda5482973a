import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog, Message
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po

from mailing.admin import language
from mailing.translations import PACKAGE, translations

KEYWORDS = {"_": None, "gettext": None, "ngettext": (1, 2), "pgettext": ((1, "c"), 2)}
ERRORS = dict.fromkeys(["NotFound", "Conflict", "Forbidden", "TooMany", "PermissionDeniedException"])
NO_PAGE_RAISES = {"access/api_guards.py", "privacy/erasure.py"}


def said() -> set[tuple[str | None, str]]:
    """Every sentence of templates and code, with its context; and those of errors, which a page may show."""
    methods = [("**.py", "python"), ("**.html", "jinja2")]
    options = {"**.html": {"newstyle_gettext": "true"}}
    found = extract_from_dir(PACKAGE, methods, keywords=KEYWORDS | ERRORS, options_map=options)
    return {
        (context, text if isinstance(text, str) else text[0])
        for file, _, text, _, context in found
        if file not in NO_PAGE_RAISES
    }


def catalogues() -> list[Path]:
    return sorted(PACKAGE.rglob("ru.po"))


def translated() -> dict[tuple[str | None, str], bool]:
    """Whether every form of a sentence has a translation."""
    messages = [message for path in catalogues() for message in catalogue(path) if message.id]
    return {
        (message.context, message.id if isinstance(message.id, str) else message.id[0]): not message.fuzzy
        and "" not in forms(message)
        for message in messages
    }


def forms(message: Message) -> list[str]:
    return [message.string] if isinstance(message.string, str) else list(message.string or [""])


def catalogue(path: Path) -> Catalog:
    with path.open("rb") as file:
        return read_po(file, locale="ru")


def test_every_sentence_has_a_russian_translation_in_all_its_forms() -> None:
    known = translated()
    assert sorted(str(key) for key in said() if not known.get(key)) == []


@pytest.mark.parametrize("path", catalogues(), ids=lambda path: path.parent.name)
def test_a_catalogue_holds_no_placeholder_that_the_english_lacks(path: Path) -> None:
    for message in catalogue(path):
        assert message.check(None) == []


@pytest.mark.parametrize(
    ("header", "expected"), [("ru-RU,ru;q=0.9,en;q=0.8", "ru"), ("en-GB", "en"), ("de", "en"), ("", "en"), ("*", "en")]
)
def test_the_browser_asks_for_a_language(header: str, expected: str) -> None:
    assert language.preferred(header) == expected


def test_russian_numbers_and_plurals() -> None:
    assert language.number(1234567, "ru") == "1\xa0234\xa0567"
    assert language.percent(0.5, "ru") == "50\xa0%"


def test_a_space_stands_between_two_sentences_of_a_template() -> None:
    """The environment trims the line break after a block; `+%}` keeps it."""
    glued = re.compile(r"\{% endtrans %\}(?:\{% endif %\})*\n\s*(?:\{% if [^%]*%\})*\{% trans")
    assert [path.name for path in PACKAGE.rglob("*.html") if glued.search(path.read_text())] == []


def test_every_kind_of_event_has_words_for_the_histories() -> None:
    page = (PACKAGE.parents[1] / "docs" / "api.md").read_text(encoding="utf-8")
    kinds = re.findall(r"`([a-z]+\.[a-z_]+)`", page.partition("| `kind` | |")[2].partition("##")[0])
    assert len(kinds) > 40
    labels = (PACKAGE / "admin" / "labels.html").read_text(encoding="utf-8")
    assert [kind for kind in kinds if f'"{kind}":' not in labels] == ["message.attempted"], "shown as a call"


def test_a_russian_plural_has_three_forms() -> None:
    said = [
        translations("ru").ngettext("%(n)s message is sent again.", "%(n)s messages are sent again.", count)
        for count in (1, 2, 5, 11, 21, 700)
    ]
    assert [sentence.rpartition(" ")[2] for sentence in said] == [
        *("сообщение.", "сообщения.", "сообщений.", "сообщений.", "сообщение.", "сообщений.")
    ]


def test_nearly_all_is_not_all() -> None:
    assert language.percent(0.99999, "en") == "99.9\xa0%"
    assert language.percent(0.00001, "en") == "0.1\xa0%"
    assert language.percent(1, "en") == "100\xa0%"


def test_an_instant_names_its_offset() -> None:
    at = datetime(2026, 11, 24, 12, 30, tzinfo=UTC)
    assert language.instant(at, "en", "Europe/Moscow") == "24 Nov 2026, 15:30 UTC+3"
    assert language.instant(at, "en", "Africa/Abidjan") == "24 Nov 2026, 12:30 UTC"
    assert language.instant(at, "en", "Asia/Kolkata") == "24 Nov 2026, 18:00 UTC+5:30"
    assert language.instant(at, "ru", "America/New_York").endswith("07:30 UTC−5")


def test_a_duration_has_two_units_at_most() -> None:
    assert language.duration(timedelta(hours=2, minutes=5, seconds=3).total_seconds(), "en") == "2\xa0h 5\xa0min"
    assert language.duration(0, "ru") == "0\xa0с"


@pytest.mark.parametrize(
    ("by", "english", "russian"),
    [
        ("user 1 (admin)", "user 1 (<bdi>admin</bdi>)", "пользователь 1 (<bdi>admin</bdi>)"),
        ("key 3 (a (b)\n<c>)", "key 3 (<bdi>a (b)\n&lt;c&gt;</bdi>)", "ключ 3 (<bdi>a (b)\n&lt;c&gt;</bdi>)"),
        ("worker", "<bdi>worker</bdi>", "<bdi>обработчик</bdi>"),
        ("MAILING_API_KEY", "<bdi>MAILING_API_KEY</bdi>", "<bdi>MAILING_API_KEY</bdi>"),
    ],
)
def test_an_actor_is_translated_and_its_name_is_not(by: str, english: str, russian: str) -> None:
    assert (language.actor(by, "en"), language.actor(by, "ru")) == (english, russian)
