"""Measure Mailing, the limits of the machine and its peers in turns.

    make bench                                       # everything, three quarters of an hour
    make bench ARGS="--quick"                        # two minutes: shows that everything works
    make bench ARGS="--stage dispatch --rounds 3"

It starts its own PostgreSQL, nginx and Redis, and writes the result as JSON and Markdown. The exit status is 1 if a
message was lost or repeated. Missed goals are reported and do not change it.
"""

import argparse
import shlex
import sys
import time
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

import msgspec

from bench import report
from bench.children import program
from bench.errors import BenchError
from bench.lab import Lab, lab
from bench.machine import describe
from bench.measure import Stage, measure
from bench.report import Result, StageResult
from bench.stages import STAGES

ROUNDS = 5


def main() -> int:
    options = _arguments()
    chosen = [stage for stage in STAGES if not options.stage or stage.name in options.stage]
    rounds = options.rounds or (1 if options.quick else ROUNDS)
    began = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    try:
        with lab(is_quick=options.quick) as here:
            machine = describe(here)
            for name, value in machine.items():
                _say(f"{name}: {value}")
            results = [_stage(here, stage, rounds) for stage in chosen]
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    command = shlex.join(["make", "bench", *([f"ARGS={shlex.join(sys.argv[1:])}"] if sys.argv[1:] else [])])
    result = Result(machine, command, began, rounds, options.quick, results)
    _write(result, options.directory)
    return 0


def _stage(here: Lab, stage: Stage, rounds: int) -> StageResult:
    _say(f"\n{stage.title}")
    if reason := _missing(stage):
        _say(f"  left out: {reason}")
        return report.left_out(stage, reason)
    began = time.monotonic()
    with stage.parties(here) as parties:
        measured = measure(parties, rounds, _say)
    result = report.judged(stage, measured, time.monotonic() - began)
    for verdict in result.verdicts:
        met = "met" if verdict.met else "MISSED"
        _say(f"  {verdict.subject} : {verdict.other} = {verdict.ratio:.3g}, goal {verdict.wish}: {met}")
    _say(f"  {result.took_s:.0f} s")
    return result


def _missing(stage: Stage) -> str | None:
    programs = [name for name in stage.needs if program(name) is None]
    packages = [name for name in stage.imports if find_spec(name) is None]
    if programs:
        return f"{', '.join(programs)} not found; in Debian: apt-get install {PACKAGES}"
    return f"{', '.join(packages)} not installed; make bench does it" if packages else None


PACKAGES = "nginx libnginx-mod-http-echo redis-server wrk"


def _write(result: Result, directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "result.json").write_bytes(msgspec.json.format(msgspec.json.encode(result)) + b"\n")
    (directory / "result.md").write_text(report.markdown(result), "utf-8")
    _say(f"\n{directory}/result.json, {directory}/result.md")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.run", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small numbers, one round")
    parser.add_argument("--stage", action="append", choices=[stage.name for stage in STAGES], help="may be repeated")
    parser.add_argument("--rounds", type=int, help=f"{ROUNDS} if left out")
    parser.add_argument("--directory", type=Path, default=Path("bench/results"), help="for result.json and result.md")
    return parser.parse_args()


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
