"""The benchmarks can still be run, with small numbers, in a process of their own: that they do, not how fast."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from support import ROOT

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(300)]  # each makes a cluster of its own


def run(module: str, *arguments: str) -> None:
    command = [sys.executable, "-m", module, *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "tests")}
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)  # noqa: S603 - our own arguments
    assert ran.returncode == 0, ran.stderr


def test_a_quick_run_of_one_stage_writes_figures_and_a_table(tmp_path: Path) -> None:
    run("bench.run", "--quick", "--stage", "statements", "--directory", str(tmp_path))
    (stage,) = json.loads((tmp_path / "result.json").read_text())["stages"]
    rates = {each["party"]: each["samples"][0]["value"] for each in stage["measured"]}
    assert rates["Mailing's claim and record"] > 0
    assert rates["pgbench, the same statements"] > 0
    assert "| Mailing's claim and record |" in (tmp_path / "result.md").read_text()


def test_it_measures_a_mailing_from_the_fan_out_to_the_retention(tmp_path: Path) -> None:
    found = tmp_path / "found.json"
    run("bench.growth.run", "--largest", "2k", "--json", str(found))
    costs = json.loads(found.read_text())["2k"]
    assert {"fan-out", "under a snapshot: claim and record, the last", "retention, the last slice"} <= costs.keys()
