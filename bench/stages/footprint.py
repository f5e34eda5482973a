"""What each entry point costs: the time until it has answered or is ready, and its memory then."""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from bench.children import run, running, until
from bench.cost import memory_mb
from bench.lab import OURS, Lab, mailing
from bench.measure import Goal, Party, Sample, Stage
from bench.senders import ROUND
from bench.stages.api import serving
from mailing.process.ports import free_port

CLICK, HELP = "python -c 'import click'", "mailing --help"
COMMANDS = {
    HELP: mailing("--help"),
    "mailing --version": mailing("--version"),
    "mailing key list": mailing("key", "list"),
    CLICK: [sys.executable, "-c", "import click"],
}


@contextmanager
def _parties(lab: Lab) -> Iterator[list[Party]]:
    with lab.database(ROUND, like=OURS):
        yield [
            *(Party(name, partial(_command, lab, command)) for name, command in COMMANDS.items()),
            Party("mailing api, ready", lambda: _api(lab)),
            Party("mailing worker, ready", lambda: _worker(lab)),
        ]


def _command(lab: Lab, command: Sequence[str]) -> Sample:
    meter, peak_mb, _ = run(command, {}, env=lab.mailing(ROUND), cwd=lab.directory)
    return Sample(meter.seconds, memory_mb=peak_mb)


def _api(lab: Lab) -> Sample:
    port = free_port()
    began = time.monotonic()
    with serving(lab, mailing("api"), port, lab.mailing(ROUND, port=port)) as pid:
        return Sample(time.monotonic() - began, memory_mb=memory_mb(pid))


def _worker(lab: Lab) -> Sample:
    lab.sql(ROUND, "DELETE FROM procrastinate_workers")
    began = time.monotonic()
    environment = lab.mailing(ROUND, gateway_url=lab.stub.url)
    with running(mailing("worker"), lab.log, env=environment, cwd=lab.directory) as worker:
        until(lambda: bool(lab.sql(ROUND, "SELECT 1 FROM procrastinate_workers")), "the worker is ready")
        return Sample(time.monotonic() - began, memory_mb=memory_mb(worker.pid))


STAGE = Stage(
    name="footprint",
    title="Start and memory of each entry point",
    unit="s",
    parties=_parties,
    goals=(Goal(HELP, CLICK, most=2.5),),
    notes=(
        "A command is measured to its end, with its peak memory. API and worker are measured until they are ready.",
    ),
)
