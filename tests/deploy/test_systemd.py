"""deploy/systemd, against systemd's own check and against the program that it runs."""

import configparser
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mailing.settings import PREFIX, Settings, load
from support import ROOT
from support.command_lines import require_known

UNITS = sorted((ROOT / "deploy" / "systemd").iterdir())
ANALYZE = shutil.which("systemd-analyze")
PROCESSES = ["mailing-api.service", "mailing-worker@.service"]


def section(unit: Path, name: str = "Service") -> configparser.SectionProxy:
    parser = configparser.ConfigParser(strict=False, interpolation=None, delimiters="=")
    parser.optionxform = str  # type: ignore[assignment,method-assign] # systemd's names have capitals
    parser.read(unit, encoding="utf-8")
    return parser[name]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_runs_a_command_that_there_is_with_options_that_it_has(unit: Path) -> None:
    program, *arguments = shlex.split(section(unit)["ExecStart"])
    assert program == "/opt/mailing/bin/mailing"
    require_known(arguments)


@pytest.mark.parametrize("name", PROCESSES)
def test_a_process_is_started_again_unless_its_settings_are_wrong_and_keeps_its_own_secrets(name: str) -> None:
    unit = ROOT / "deploy" / "systemd" / name
    service = section(unit)
    assert (service["Restart"], service["RestartPreventExitStatus"]) == ("always", "2")
    assert section(unit, "Unit")["StartLimitIntervalSec"] == "0"
    kept_away = service["UnsetEnvironment"].split()
    assert set(kept_away) <= {PREFIX + field.upper() for field in Settings.__struct_fields__}
    everything = dict(re.findall(r"^#?(MAILING_\w+)=(.*)$", (ROOT / ".env.example").read_text(), flags=re.MULTILINE))
    filled = everything | dict.fromkeys(kept_away, "secret-of-another-part")
    load({name: value for name, value in filled.items() if name not in kept_away})  # what is left fits together


def test_no_secret_but_the_database_s_reaches_both_processes() -> None:
    secrets = {
        PREFIX + name.upper() for name in Settings.__struct_fields__ if re.search("(key|token|password|secret)$", name)
    }
    kept_away = [set(section(ROOT / "deploy" / "systemd" / name)["UnsetEnvironment"].split()) for name in PROCESSES]
    assert secrets == set.union(*kept_away) & secrets
    assert set.intersection(*kept_away) == set()


def test_a_worker_has_time_to_end_its_longest_call() -> None:
    service = section(ROOT / "deploy" / "systemd" / "mailing-worker@.service")
    assert int(service["TimeoutStopSec"]) >= Settings().gateway_timeout_s + 30


def test_the_guide_names_every_unit() -> None:
    guide = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    assert [unit.stem for unit in UNITS if unit.stem not in guide] == []


@pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not on PATH; Debian's package is systemd")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_accepts_the_unit(unit: Path, tmp_path: Path) -> None:
    """It looks for the program, so it is told one that is here."""
    copy = tmp_path / unit.name
    copy.write_text(unit.read_text(encoding="utf-8").replace("/opt/mailing/bin/mailing", sys.executable))
    verified = subprocess.run(  # noqa: S603 - found on PATH
        [str(ANALYZE), "verify", "--man=no", str(copy)], capture_output=True, text=True, check=False, timeout=60
    )
    assert (verified.returncode, verified.stderr) == (0, "")
