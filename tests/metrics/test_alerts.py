"""Alerts and dashboard ask for metrics that exist, and every alert has its place in the runbook."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped] # comes with Litestar, its stubs don't

from support import ROOT

PROMETHEUS = ROOT / "deploy" / "prometheus"
ALERTS: list[dict[str, Any]] = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"][0]["rules"]
DASHBOARD: dict[str, Any] = json.loads((ROOT / "deploy" / "grafana" / "mailing.json").read_text())
PROMTOOL = shutil.which("promtool")


def documented() -> dict[str, set[str]]:
    rows = re.findall(
        r"^\| `(mailing_\w+)(?:\{(.*?)\})?` \|", (ROOT / "docs/metrics.md").read_text(), flags=re.MULTILINE
    )
    return {name: {*re.findall(r"\w+", labels), "le"} for name, labels in rows}


def expressions() -> list[str]:
    targets = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    return [*targets, *(alert["expr"] for alert in ALERTS)]


@pytest.mark.parametrize("expression", expressions())
def test_every_metric_and_label_asked_for_is_documented(expression: str) -> None:
    known = documented()
    asked = re.findall(r"(mailing_\w+?)(?:_(?:bucket|count|sum))?\b(?:\{(.*?)\})?", expression)
    assert asked
    for name, matchers in asked:
        assert set(re.findall(r"(\w+)=", matchers)) <= known[name]


def test_every_question_that_the_page_answers_is_on_the_dashboard() -> None:
    asked = "\n".join(expressions())
    assert [name for name in documented() if not re.search(rf"{name}(_bucket)?\b", asked)] == []


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: str(alert["alert"]))
def test_every_alert_has_its_place_in_the_runbook(alert: dict[str, Any]) -> None:
    page, _, anchor = alert["annotations"]["runbook"].partition("#")
    headings = re.findall(r"^#+ (.+)$", (ROOT / page).read_text(), flags=re.MULTILINE)
    assert alert["alert"] in headings
    assert anchor == alert["alert"].lower()
    assert alert["labels"]["severity"] in {"critical", "warning"}


def test_no_runbook_entry_is_left_over() -> None:
    headings = re.findall(r"^#### (Mailing\w+)$", (ROOT / "docs/operations.md").read_text(), flags=re.MULTILINE)
    assert headings == [alert["alert"] for alert in ALERTS]


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not on PATH; Debian's package is prometheus")
@pytest.mark.parametrize("arguments", [("check", "rules", "alerts.yml"), ("check", "config", "prometheus.yml")])
def test_prometheus_accepts_the_files(arguments: tuple[str, ...]) -> None:
    checked = subprocess.run(  # noqa: S603 - found on PATH
        [str(PROMTOOL), *arguments], cwd=PROMETHEUS, capture_output=True, text=True, check=False, timeout=60
    )
    assert checked.returncode == 0, checked.stderr


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not on PATH; Debian's package is prometheus")
def test_alerts_fire_when_they_should_and_not_otherwise(tmp_path: Path) -> None:
    cases = Path(__file__).with_name("alerts_test.yml").read_text()
    (tmp_path / "cases.yml").write_text(cases.replace("ALERTS", str(PROMETHEUS / "alerts.yml"), 1))
    tested = subprocess.run(  # noqa: S603 - found on PATH
        [str(PROMTOOL), "test", "rules", str(tmp_path / "cases.yml")],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert tested.returncode == 0, tested.stdout + tested.stderr
