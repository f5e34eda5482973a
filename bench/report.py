"""The result of a run as JSON and as Markdown tables."""

from collections.abc import Iterator, Sequence

from msgspec import Struct

from bench.measure import Goal, Measured, Stage

COMMAND = "make bench"


class Verdict(Struct, frozen=True):
    """A goal and the measured ratio of medians."""

    subject: str
    other: str
    ratio: float
    wish: str
    met: bool


class StageResult(Struct, frozen=True):
    """`left_out` is the reason if there are no figures."""

    name: str
    title: str
    unit: str
    notes: list[str]
    took_s: float = 0.0
    measured: list[Measured] = []
    verdicts: list[Verdict] = []
    left_out: str | None = None


class Result(Struct, frozen=True):
    machine: dict[str, str]
    command: str
    began: str
    rounds: int
    is_quick: bool
    stages: list[StageResult]


def judged(stage: Stage, measured: Sequence[Measured], took_s: float) -> StageResult:
    medians = {each.party: each.median for each in measured}
    verdicts = [_verdict(goal, medians[goal.subject] / medians[goal.other]) for goal in stage.goals]
    return StageResult(stage.name, stage.title, stage.unit, list(stage.notes), took_s, list(measured), verdicts)


def left_out(stage: Stage, reason: str) -> StageResult:
    return StageResult(stage.name, stage.title, stage.unit, list(stage.notes), left_out=reason)


def markdown(result: Result) -> str:
    """Return the tables of docs/performance.md."""
    lines = [f"`{result.command}`, {result.began}, {result.rounds} rounds, medians and ranges.", ""]
    if result.is_quick:
        lines += ["**A quick run: its figures show that everything works and nothing else.**", ""]
    lines += [f"- {name}: {value}" for name, value in result.machine.items()]
    for stage in result.stages:
        lines += ["", f"### {stage.title}", "", *_stage(stage)]
    return "\n".join(lines) + "\n"


def _verdict(goal: Goal, ratio: float) -> Verdict:
    return Verdict(goal.subject, goal.other, ratio, goal.wish, goal.met_by(ratio))


def _stage(stage: StageResult) -> Iterator[str]:
    if stage.left_out:
        yield f"Left out: {stage.left_out}"
        return
    groups = list(dict.fromkeys(group for each in stage.measured for group in each.cpu_s_of_1000))
    with_memory = any(each.memory_mb is not None for each in stage.measured)
    header = ["", stage.unit, *(f"CPU s per 1,000: {group}" for group in groups), *(["MB"] if with_memory else [])]
    yield _row(header)
    yield _row(["---", *["---:"] * (len(header) - 1)])
    for each in stage.measured:
        cpu = [f"{each.cpu_s_of_1000[group]:.3g}" if group in each.cpu_s_of_1000 else "" for group in groups]
        memory = [f"{each.memory_mb:.0f}" if each.memory_mb is not None else ""] if with_memory else []
        lowest, highest = each.range
        yield _row([each.party, f"{number(each.median)} ({number(lowest)} to {number(highest)})", *cpu, *memory])
    yield ""
    if stage.verdicts:
        yield _row(["", "found", "goal", ""])
        yield _row(["---", "---:", "---:", "---"])
    for verdict in stage.verdicts:
        met = "met" if verdict.met else "**missed**"
        yield _row([f"{verdict.subject} : {verdict.other}", f"{verdict.ratio:.3g}", verdict.wish, met])
    yield from ("", *stage.notes, f"All rounds took {stage.took_s:.0f} s.")


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
