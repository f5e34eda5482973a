"""What the tests read off an answer."""

import re
from typing import Any

import httpx

Json = dict[str, Any]


def json_of(answer: httpx.Response, status: int = 200) -> Json:
    assert answer.status_code == status, answer.text
    found: Json = answer.json()
    return found


def problem_of(answer: httpx.Response, status: int = 400) -> Json:
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    return json_of(answer, status)


def bad_fields(answer: httpx.Response) -> list[str]:
    return [error["field"] for error in problem_of(answer)["errors"]]


def words(answer: httpx.Response, status: int = 200) -> str:
    """Return a page's text without its tags."""
    assert answer.status_code == status, answer.text
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", re.sub("</?bdi>", "", answer.text)))


def entered(answer: httpx.Response, name: str) -> str:
    found = re.search(rf'<input id="{name}"[^>]* value="([^"]*)"', answer.text)
    assert found
    return found[1]
