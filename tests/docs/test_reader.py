"""The reader of the documentation refuses what it must: a check that can't fail is none."""

from pathlib import Path

import pytest

from support.documents import anchors, links, same_json, same_text

SAID = '{"id":7,"at":"2026-11-26T23:45:12.283449Z","items":[1,2],"ends_at":"2035-12-03T16:00:00Z"}'


@pytest.mark.parametrize(
    "shown",
    [
        '{"id": 7, "at": "2020-01-01T00:00:00.1Z", "items": [1, 2], "ends_at": "2035-12-03T16:00:00Z"}',
        '{"id": 7, …}',
        '{"id": …, "items": [1, …], "at": "…", …}',
        '{"items": …,\n …\n}',
        '{"id": 7, "at": "…", "items": [1, 2], "ends_at": …}',
    ],
)
def test_an_answer_is_the_one_shown_where_only_what_varies_differs(shown: str) -> None:
    assert same_json(shown, SAID)


@pytest.mark.parametrize(
    "shown",
    [
        '{"id": 8, …}',
        '{"id": "7", …}',
        '{"id": 7}',
        '{"id": 7, "name": …, …}',
        '{"items": [1], …}',
        '{"items": [1, 2, 3], …}',
        '{"items": [2, …], …}',
        '{"items": [1, 2, …], …}',
        '{"ends_at": "2035-12-03T17:00:00Z", …}',
        '{"at": "2026-11-26T23:45:12Z", …}',
        "[]",
    ],
)
def test_an_answer_that_differs_is_not_the_one_shown(shown: str) -> None:
    assert not same_json(shown, SAID)


def test_lines_are_compared_one_by_one() -> None:
    assert same_text("HTTP/1.1 …\nid: 1\n", "HTTP/1.1 201 Created\r\nid: 1\r\n")
    assert not same_text("HTTP/1.1 …\nid: 1\n", "HTTP/1.1 201 Created\r\nid: 2\r\n")
    assert not same_text("HTTP/1.1 …", "HTTP/1.1 201 Created\r\nid: 1\r\n")


def test_anchors_are_made_of_headings_and_links_are_found_outside_code(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# What is `not` tested?\n## Twice\n## Twice\n```sh\n# no heading\n```\n"
        "[a](b.md#c) ![d](e.png) [f](https://example.org/#g) `[h](i.md)` [j](#twice)\n"
    )
    assert anchors(page) == {"what-is-not-tested", "twice", "twice-1"}
    assert list(links(page)) == [("b.md", "c"), ("e.png", ""), ("", "twice")]
