"""Schemathesis against the whole API in this process: whatever the OpenAPI document says, with every check it has."""

import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import schemathesis
from schemathesis import CheckContext, Response
from schemathesis.config import SchemathesisConfig
from schemathesis.core.failures import Failure
from schemathesis.engine import Status, events, from_schema
from schemathesis.engine.recorder import ScenarioRecorder
from schemathesis.generation.case import Case
from schemathesis.hooks import HookContext
from schemathesis.openapi import from_asgi
from schemathesis.python.asgi import shutdown_lifespans

from mailing.app import create_app
from mailing.settings import Settings
from mailing.web.security_headers import ALWAYS

# What a JSON schema can't say: a rule between two fields, about today, or with a list behind it. A 400 that names
# nothing else is no contradiction to the documentation.
BEYOND_A_SCHEMA = (
    "must be after starts_at",
    "must lie in the future",
    "must lie in the years 2000 to 2099",
    "must differ from start",
    "must be an IANA time zone",
    "must be 1 to 100 visible characters, without",  # a tag: invisible ones that no pattern names in every dialect
    "must not contain a NUL character",
    "belongs to no client",
    "is required, or message_id",  # exactly one of three
    "is one of several ids",
)


@dataclass
class Findings:
    """`cases` by phase, `checks` by name and verdict; a failure is a whole paragraph, with what to send to see it."""

    cases: Counter[str] = field(default_factory=Counter)
    checks: Counter[tuple[str, str]] = field(default_factory=Counter)
    failures: dict[str, str] = field(default_factory=dict)

    def add(self, phase: str, recorder: ScenarioRecorder) -> None:
        self.cases[phase] += len(recorder.interactions)
        for case_id, nodes in recorder.checks.items():
            for node in nodes:
                if node.name == "ensure_resource_availability" and _was_replayed(recorder, case_id):
                    continue
                self.checks[node.name, node.status.value] += 1
                if node.status is Status.FAILURE and node.failure_info:
                    self._add_failure(node.failure_info.failure, recorder, case_id)

    def _add_failure(self, failure: Failure, recorder: ScenarioRecorder, case_id: str) -> None:
        case, answer = recorder.cases[case_id].value, recorder.interactions[case_id].response
        told = f"{answer.status_code} {answer.content[:500]!r}" if answer else "no answer"
        key = f"{case.operation.label}: {failure.title}"
        self.failures.setdefault(key, f"{failure.message}\n{case.as_curl_command()[:2000]}\n{told}")


def _was_replayed(recorder: ScenarioRecorder, case_id: str) -> bool:
    """Return whether an earlier case created and deleted it: the same Idempotency-Key gets the same answer again."""
    parent = recorder.find_parent(case_id=case_id)
    if parent is None:
        return False
    answer = recorder.find_response(case_id=parent.id)
    return (answer is not None and "idempotent-replayed" in answer.headers) or _was_replayed(recorder, parent.id)


def attack(settings: Settings, *, examples: int, seed: int) -> Findings:
    """`examples` bounds the cases of an operation and of a scenario; coverage adds its own 50 or so an operation."""
    findings = Findings()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the tool, about what it could not try
        schema = from_asgi("/docs/openapi.json", create_app(settings), config=_config(settings, examples, seed))
        try:
            for event in from_schema(schema).execute():
                _take(event, findings)
        finally:
            shutdown_lifespans()
    return findings


def _config(settings: Settings, examples: int, seed: int) -> SchemathesisConfig:
    accepted = ["2xx", "404", "409", "422"]  # 422: an Idempotency-Key that an earlier case has used
    return SchemathesisConfig.from_dict(
        {
            "seed": seed,
            "headers": {"Authorization": f"Bearer {settings.api_key}"},
            "continue-on-failure": True,
            "generation": {"max-examples": examples, "allow-x00": True, "no-shrink": True, "database": "none"},
            "checks": {"positive_data_acceptance": {"expected-statuses": accepted}},
        }
    )


def _take(event: events.EngineEvent, findings: Findings) -> None:
    match event:
        case events.ScenarioFinished():
            findings.add(event.phase.value, event.recorder)
        case events.NonFatalError():
            findings.failures[f"{event.label}: error"] = str(event.value)
        case events.FatalError():
            raise event.exception
        case _:
            pass


@schemathesis.check
def safe_headers(ctx: CheckContext, response: Response, case: Case[Any]) -> None:
    del ctx, case
    missing = [name for name in ALWAYS if name.lower() not in response.headers]
    assert not missing, f"an answer without {missing}"


@schemathesis.hook("filter_failure")
def within_the_schema(context: HookContext, failure: Failure, case: Case[Any], response: Response) -> bool:
    """Whether a refusal of valid data contradicts the documentation."""
    del context, case
    if failure.title != "Schema-valid request rejected" or response.status_code != 400:
        return True
    errors: list[Mapping[str, str]] = response.json()["errors"]
    return not errors or not all(map(_is_beyond_a_schema, errors))


def _is_beyond_a_schema(error: Mapping[str, str]) -> bool:
    """`header` is the first line of a CSV: to the schema the file is any text."""
    return error["field"] == "header" or error["message"].startswith(BEYOND_A_SCHEMA)
