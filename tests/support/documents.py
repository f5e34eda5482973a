"""Reading the documentation: its pages, links, anchors and code, and whether an answer is the one that is shown."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support import ROOT

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
ANYTHING = "…"
_CLOCK = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z")  # with a fraction: not written by hand


@dataclass(frozen=True)
class Code:
    """A fenced block; `language` is what stands behind the fence."""

    language: str
    text: str


def pages() -> list[Path]:
    """Every page that git would keep: no environment, no cache."""
    places = (
        ROOT.glob("*.md"),
        *(ROOT.glob(f"{name}/**/*.md") for name in ("docs", "deploy", "bench", "tests", "src")),
    )
    return sorted(page for place in places for page in place)


def blocks(page: Path) -> list[Code]:
    return [Code(language, text) for language, text in FENCE.findall(page.read_text(encoding="utf-8"))]


def prose(page: Path) -> str:
    """Without code: what looks like a heading or a link in there is none."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def headings(page: Path) -> list[tuple[int, str]]:
    """(level, text) of each."""
    return [(len(marks), text) for marks, text in re.findall(r"^(#{1,6}) (.+)$", prose(page), flags=re.MULTILINE)]


def anchors(page: Path) -> set[str]:
    """As GitHub and GitLab make them of headings: small letters, no punctuation, hyphens for spaces."""
    plain = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower() for _, heading in headings(page)]
    names = [re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in plain]
    return {f"{name}-{names[:at].count(name)}" if name in names[:at] else name for at, name in enumerate(names)}


def links(page: Path) -> Iterator[tuple[str, str]]:
    """(path, anchor) of each link that is no address; either may be empty. Inline code is no link."""
    for target in re.findall(r"\]\(([^)\s]+)\)", _without_code(page)):
        if not re.match(r"[a-z]+:", target):
            path, _, anchor = target.partition("#")
            yield path, anchor


def addresses(page: Path) -> list[str]:
    return re.findall(r"https?://[^)>\s]+", _without_code(page))


def _without_code(page: Path) -> str:
    return re.sub(r"`[^`\n]*`", "", prose(page))


def same_json(shown: str, said: str) -> bool:
    """`…` is anything: a value, or the rest of an object or list. Times with a fraction of a second are the clock's."""
    rest = re.sub(r"(?<!: )…(?=\s*\})", '"…": "…"', shown)
    return _same(json.loads(re.sub(r'(?<!")…(?!")', '"…"', rest)), json.loads(said))


def same_text(shown: str, said: str) -> bool:
    """Line by line; `…` is any part of a line."""
    pattern = re.escape(shown.strip()).replace(re.escape(ANYTHING), ".*")
    return re.fullmatch(pattern, "\n".join(line.rstrip() for line in said.strip().splitlines())) is not None


def _same(shown: Any, said: Any) -> bool:  # noqa: ANN401 - whatever JSON holds
    match shown, said:
        case "…", _:
            return True
        case dict(), dict():
            some = shown.keys() - {ANYTHING}
            complete = ANYTHING in shown or some == said.keys()
            return complete and some <= said.keys() and all(_same(shown[name], said[name]) for name in some)
        case list(), list():
            begun = shown[-1:] == [ANYTHING]
            complete = len(shown) <= len(said) if begun else len(shown) == len(said)
            return complete and all(_same(*pair) for pair in zip(shown, said, strict=False))
        case str(), str() if _CLOCK.fullmatch(shown):
            return _CLOCK.fullmatch(said) is not None
        case _:
            return type(shown) is type(said) and bool(shown == said)
