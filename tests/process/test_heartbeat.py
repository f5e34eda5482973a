"""A worker's heartbeat, checked as Kubernetes does: by another process."""

import fcntl
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from mailing.process import heartbeat


@pytest.fixture(autouse=True)
def _own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))


def asked(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-m", *command], capture_output=True, text=True, check=False, env=dict(os.environ), timeout=60
    )


@pytest.mark.parametrize("command", [["mailing.process.heartbeat"], ["mailing", "worker", "--health"]])
def test_a_beating_worker_is_alive_and_none_is_not(command: list[str]) -> None:
    with heartbeat.beating() as beat:
        beat()
        assert asked(*command).returncode == 0
    gone = asked(*command)
    assert gone.returncode == 1
    assert gone.stderr == "mailing: no worker runs here, or it cannot write to its temporary directory; see its log\n"


def test_a_silent_worker_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with heartbeat.beating():
        monkeypatch.setattr(heartbeat, "MAX_SILENCE_S", -1.0)
        assert "no progress" in str(heartbeat.check())


def test_a_full_disk_is_no_error_for_the_watchdog_that_beats() -> None:
    with heartbeat.beating() as beat:
        unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, unlimited[1]))
        try:
            beat()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)


def test_a_killed_workers_file_counts_for_nobody(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for number in (ended.pid, os.getppid()):  # another process may have got its number
        (tmp_path / f"mailing-worker-{number}.heartbeat").write_text("0.0")
    assert "no worker runs here" in str(heartbeat.check())
    with heartbeat.beating():
        assert heartbeat.check() is None


def test_what_the_last_worker_of_this_number_left_is_replaced(tmp_path: Path) -> None:
    left = tmp_path / f"mailing-worker-{os.getpid()}.heartbeat"
    left.symlink_to(tmp_path / "somebody's file")
    with heartbeat.beating():
        assert heartbeat.check() is None
    assert not (tmp_path / "somebody's file").exists()


def test_a_worker_without_a_place_for_it_works_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with heartbeat.beating() as beat:
        beat()


def test_asking_loads_nothing_else_of_the_product() -> None:
    source = """if True:
        import sys, mailing.process.heartbeat
        loaded = {name for name in sys.modules if name.startswith(("mailing.", "sql"))}
        sys.exit(loaded != {"mailing.process", "mailing.process.heartbeat"})"""
    assert subprocess.run([sys.executable, "-c", source], check=False, timeout=60).returncode == 0  # noqa: S603 - our own program


def test_a_worker_that_has_not_written_yet_is_not_asked(tmp_path: Path) -> None:
    with heartbeat.beating(), (tmp_path / f"mailing-worker-{os.getppid()}.heartbeat").open("w") as beginning:
        fcntl.flock(beginning, fcntl.LOCK_EX)
        assert heartbeat.check() is None
