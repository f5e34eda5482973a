"""docs/api.md against the API: its examples are answers that there can be, its lists are whole."""

import json
import re
from typing import Any

import msgspec
import pytest

from mailing.events.history import HistoryEntry
from mailing.mailings.preview import Preview
from mailing.messages.schemas import WaitingFor
from mailing.messages.states import MessageStatus, WaitReason
from mailing.reasons.codes import ReasonCode
from mailing.settings import Settings
from mailing.web import idempotency, idempotency_keys
from support import ROOT
from support.api import Api, bound_app
from support.documents import blocks

PAGE = ROOT / "docs" / "api.md"
TEXT = PAGE.read_text(encoding="utf-8")
EXAMPLES: list[dict[str, Any]] = [
    json.loads(re.sub(r"\s//.*$", "", code.text, flags=re.MULTILINE))
    for code in blocks(PAGE)
    if code.language.startswith("json")
]


def example(name: str) -> dict[str, Any]:
    """Return the struct that has this member."""
    (found,) = [each for each in EXAMPLES if name in each]
    return found


def documented_paths(settings: Settings) -> dict[str, Any]:
    with bound_app(settings) as app:
        paths: dict[str, Any] = app.openapi_schema.to_schema()["paths"]
    return {path.removeprefix("/mailing/api"): item for path, item in paths.items() if path.startswith("/mailing/api")}


async def test_the_error_shown_is_the_one_that_is_answered(api: Api) -> None:
    body = {"starts_at": "2035-12-01T18:00:00Z", "ends_at": "2035-12-01T09:00:00Z"}
    answer = await api.post("/mailings/", json=body)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json() == example("errors")


async def test_the_repetition_shown_is_answered_as_it_says(api: Api) -> None:
    (shown,) = [code.text for code in blocks(PAGE) if "Idempotency-Key" in code.text]
    headers = dict(re.findall(r'-H "([\w-]+): ([^"]+)"', shown))
    body = re.search(r"-d '(.*?)'", shown, flags=re.DOTALL)
    assert body
    request: dict[str, Any] = {"headers": headers, "content": body[1]}
    first, second = [await api.post("/mailings/", **request) for _ in range(2)]
    assert (first.status_code, second.status_code) == (201, 201)
    assert (second.json(), second.headers["idempotent-replayed"]) == (first.json(), "true")
    assert f"each is kept for {idempotency_keys.RETENTION_H} hours" in TEXT
    assert f"1 to {idempotency.MAX_LENGTH} visible ASCII characters" in TEXT


@pytest.mark.parametrize(
    ("member", "kind", "part"),
    [("recipients", Preview, None), ("kind", HistoryEntry, None), ("waiting_for", WaitingFor, "waiting_for")],
)
def test_an_example_has_the_members_that_an_answer_has(member: str, kind: type[Any], part: str | None) -> None:
    """Written down again it is the same: nothing is missing, and nothing is there that an answer has not."""
    shown = example(member)[part] if part else example(member)
    assert msgspec.to_builtins(msgspec.convert(shown, kind, strict=True)) == shown


def test_every_status_that_the_api_documents_is_explained(settings: Settings) -> None:
    operations = [operation for item in documented_paths(settings).values() for operation in item.values()]
    refusals = {status for each in operations for status in each["responses"] if not status.startswith("2")}
    rows = re.findall(r"^\| (\d{3}(?: · \d{3})*) \|", TEXT, flags=re.MULTILINE)
    explained = {status for row in rows for status in row.split(" · ")}
    assert refusals | {"405", "414"} == explained


def test_every_act_on_a_mailing_and_every_reason_and_status_is_listed(settings: Settings) -> None:
    acts = {
        path.rpartition("/")[2] for path in documented_paths(settings) if path.startswith("/mailings/{mailing_id}/")
    }
    reasons = set(WaitReason) - {WaitReason.start}  # what a mailing waits for: it has no message before
    first_cells = re.findall(r"^\| ((?:`[a-z-]+`(?: · )?)+) \|", TEXT, flags=re.MULTILINE)
    listed = {name for cell in first_cells for name in re.findall(r"`([a-z-]+)`", cell)}
    assert listed - {"reason", "kind"} == acts | reasons  # without the heads of tables
    assert {code for code in ReasonCode if f"`{code}`" not in TEXT} == set()
    (sentence,) = re.findall(r"^A message is ([^.]*)\.", TEXT, flags=re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", sentence)) == set(MessageStatus)
