"""The benchmark of growth: that it runs, not how fast."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from support import ROOT


@pytest.mark.heavy
def test_it_measures_a_mailing_from_the_fan_out_to_the_retention(tmp_path: Path) -> None:
    found = tmp_path / "found.json"
    env = os.environ | {"PYTHONPATH": str(ROOT / "tests")}
    command = [sys.executable, "-m", "bench.growth.run", "--largest", "2k", "--json", str(found)]
    ran = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)  # noqa: S603 - our own script
    assert ran.returncode == 0, ran.stderr
    costs = json.loads(found.read_text())["2k"]
    assert {"fan-out", "under a snapshot: claim and record, the last", "retention, the last slice"} <= costs.keys()
