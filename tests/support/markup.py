"""What the tests read off a page."""

import re

import httpx


def words(answer: httpx.Response, status: int = 200) -> str:
    """Return a page's text without its tags."""
    assert answer.status_code == status, answer.text
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer.text))


def entered(answer: httpx.Response, name: str) -> str:
    found = re.search(rf'<input id="{name}"[^>]* value="([^"]*)"', answer.text)
    assert found
    return found[1]
