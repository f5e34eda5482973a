"""Commands in processes of their own, forked from one that has loaded them, because to load one takes up to a second.

`xdist_group("commands")` keeps their tests in one worker, which loads them once.
"""

import multiprocessing
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from subprocess import CompletedProcess
from tempfile import TemporaryDirectory

from mailing.__main__ import run
from mailing.cli.main import COMMANDS

_loaded = multiprocessing.get_context("forkserver")
_loaded.set_forkserver_preload(
    [
        "__main__",
        "mailing.app",
        "mailing.worker",
        *(f"mailing.cli.{where.partition(':')[0]}" for where, _ in COMMANDS.values()),
    ]
)


def mailing(*arguments: str, cwd: Path, env: Mapping[str, str]) -> CompletedProcess[str]:
    """Run `mailing` with these arguments, in this directory and environment. Wait for its end."""
    with TemporaryDirectory() as place:
        outputs = [Path(place, name) for name in ("stdout", "stderr")]
        process = _loaded.Process(target=_command, args=(arguments, cwd, dict(env), outputs))
        process.start()
        process.join(60)
        process.kill()
        process.join()
        assert process.exitcode is not None
        return CompletedProcess(arguments, process.exitcode, *(path.read_text() for path in outputs))


def _command(arguments: tuple[str, ...], cwd: Path, env: dict[str, str], outputs: list[Path]) -> None:
    for number, path in enumerate(outputs, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    sys.argv = ["mailing", *arguments]
    run()
