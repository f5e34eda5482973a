"""The benchmark can still be run: its cheapest stage, with small numbers, in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from support import ROOT


@pytest.mark.heavy
@pytest.mark.timeout(300)  # it makes a cluster of its own
def test_a_quick_run_of_one_stage_writes_figures_and_a_table(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench.run", "--quick", "--stage", "statements", "--directory", str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "tests")}
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)  # noqa: S603 - our own arguments
    assert ran.returncode == 0, ran.stderr
    (stage,) = json.loads((tmp_path / "result.json").read_text())["stages"]
    rates = {each["party"]: each["samples"][0]["value"] for each in stage["measured"]}
    assert rates["Mailing's claim and record"] > 0
    assert rates["pgbench, the same statements"] > 0
    assert "| Mailing's claim and record |" in (tmp_path / "result.md").read_text()
