"""Commands in processes of their own, forked from one that has loaded them.

`xdist_group("commands")` keeps the tests of short ones in one worker, which loads them once.
"""

import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from subprocess import CompletedProcess
from tempfile import TemporaryDirectory

from mailing.__main__ import run
from mailing.settings import Settings
from support.forks import LOADED, Fork, forked, work_in
from support.processes import clean_environment, stop


def mailing(*arguments: str, cwd: Path, env: Mapping[str, str]) -> CompletedProcess[str]:
    """Run `mailing` with these arguments, in this directory and environment. Wait for its end."""
    with TemporaryDirectory() as place:
        outputs = [Path(place, name) for name in ("stdout", "stderr")]
        process = LOADED.Process(target=work_in, args=(partial(_command, arguments), dict(env), cwd, outputs))
        process.start()
        process.join(60)
        process.kill()
        process.join()
        assert process.exitcode is not None
        return CompletedProcess(arguments, process.exitcode, *(path.read_text() for path in outputs))


@asynccontextmanager
async def running_command(
    *arguments: str, cwd: Path, env: Mapping[str, str], log: Path, end_s: float = 30
) -> AsyncIterator[Fork]:
    """Run `mailing` with these arguments until the block ends, then end it by SIGTERM. Append what it prints to `log`.

    Fail if its end takes longer than `end_s`.
    """
    async with forked(partial(_command, arguments), env=env, cwd=cwd, outputs=(log, log)) as process:
        yield process
        await stop(process, signal.SIGTERM, within_s=end_s)


@asynccontextmanager
async def worker_process(settings: Settings, directory: Path) -> AsyncIterator[Fork]:
    """Run a worker as an operator does; kill it if it still runs at the end of the block."""
    async with forked(partial(_command, ["worker"]), env=clean_environment(settings), cwd=directory) as process:
        yield process


def _command(arguments: Sequence[str]) -> None:
    sys.argv = ["mailing", *arguments]
    run()
