"""CI does what a developer does: the Makefile's targets and nothing of its own."""

import re
from typing import Any

import yaml  # type: ignore[import-untyped] # comes with Litestar, its stubs don't

from support import ROOT

PIPELINE: dict[str, Any] = yaml.safe_load((ROOT / ".gitlab-ci.yml").read_text())
JOBS = {name: job for name, job in PIPELINE.items() if isinstance(job, dict) and "script" in job}


def test_every_job_runs_targets_of_the_makefile_alone() -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    commands = [line for job in JOBS.values() for line in job["script"]]
    run = {line.split()[1] for line in commands}
    assert run == {"check", "audit", "sbom", "wheel", "test", "test-heavy", "containers"}
    assert run <= set(targets)
    assert {line.split()[0] for line in commands} == {"make"}


def test_the_short_way_checks_audits_and_tests_as_the_pipeline_does() -> None:
    run = (ROOT / ".ci" / "run").read_text()
    made = {
        target
        for line in re.findall(r"^make (.+)$", run, flags=re.MULTILINE)
        for target in line.partition("&")[0].split()
    }
    assert made == {"audit", "ARGS=--if-reachable", "generators", "sbom", "check", "test"}


def test_it_tests_on_the_oldest_and_the_newest_python() -> None:
    supported = re.search(r'requires-python = ">=(3\.\d+)[.\d]*,<3\.(\d+)"', (ROOT / "pyproject.toml").read_text())
    assert supported
    oldest, newest = supported[1], f"3.{int(supported[2]) - 1}"
    assert [each["PYTHON_VERSION"] for each in JOBS["test"]["parallel"]["matrix"]] == [oldest, newest]


def test_what_takes_minutes_each_runs_by_a_schedule_and_stops_no_merge() -> None:
    by_schedule, by_hand = JOBS["test-heavy"]["rules"]
    assert by_schedule == {"if": '$CI_PIPELINE_SOURCE == "schedule"'}
    assert by_hand == {"when": "manual", "allow_failure": True}


def test_the_database_of_the_tests_is_the_services() -> None:
    variables, (service,) = JOBS["test"]["variables"], JOBS["test"]["services"]
    assert f"@{service['alias']}:5432/" in variables["MAILING_TEST_DATABASE_URL"]
    assert f":{variables['POSTGRES_PASSWORD']}@" in variables["MAILING_TEST_DATABASE_URL"]


def test_the_ports_of_the_containers_are_looked_for_where_the_engine_is() -> None:
    """A service is another container: its loopback is not the job's."""
    variables, (engine,) = JOBS["containers"]["variables"], JOBS["containers"]["services"]
    assert variables["ENGINE_HOST"] == engine.partition(":")[0]
    assert "${ENGINE_HOST:-127.0.0.1}" in (ROOT / ".ci" / "containers").read_text()
