"""Measure parties in turns, and compare their medians with the goals."""

import statistics
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from msgspec import Struct

from bench.cost import Meter
from bench.lab import Lab


class Sample(Struct, frozen=True):
    """One party in one round. `value` is in the stage's unit; `cpu_s` by group of processes, for `count` items.

    `memory_mb` is the peak of the party's own processes.
    """

    value: float
    count: int = 0
    cpu_s: dict[str, float] = {}
    memory_mb: float | None = None


def per_second(count: int, meter: Meter, memory_mb: float | None = None) -> Sample:
    return Sample(count / meter.seconds, count, meter.cpu_s, memory_mb)


@dataclass(frozen=True)
class Party:
    """The first party of a stage is the subject. `measure` prepares, measures and checks one round."""

    name: str
    measure: Callable[[], Sample]


@dataclass(frozen=True)
class Goal:
    """Bounds of the subject's median divided by that of `other`."""

    subject: str
    other: str
    least: float | None = None
    most: float | None = None

    def met_by(self, ratio: float) -> bool:
        return (self.least is None or ratio >= self.least) and (self.most is None or ratio <= self.most)

    @property
    def wish(self) -> str:
        return f"≥ {self.least:g}" if self.least is not None else f"≤ {self.most:g}"


@dataclass(frozen=True)
class Stage:
    """A stage. It is skipped, with a note in the report, without the programs in `needs` or packages in `imports`."""

    name: str
    title: str
    unit: str
    parties: Callable[[Lab], AbstractContextManager[Sequence[Party]]]
    goals: Sequence[Goal]
    needs: Sequence[str] = ()
    imports: Sequence[str] = ()
    notes: Sequence[str] = ()


class Measured(Struct, frozen=True):
    """`samples` are in the order of rounds."""

    party: str
    samples: list[Sample]

    @property
    def median(self) -> float:
        return statistics.median(sample.value for sample in self.samples)

    @property
    def range(self) -> tuple[float, float]:
        values = [sample.value for sample in self.samples]
        return min(values), max(values)

    @property
    def memory_mb(self) -> float | None:
        peaks = [sample.memory_mb for sample in self.samples if sample.memory_mb is not None]
        return statistics.median(peaks) if peaks else None

    @property
    def cpu_s_of_1000(self) -> dict[str, float]:
        """Return the median over the rounds, for each group."""
        counted = [sample for sample in self.samples if sample.count]
        groups = counted[0].cpu_s if counted else {}
        return {
            group: statistics.median(sample.cpu_s[group] / sample.count * 1000 for sample in counted)
            for group in groups
        }


def measure(parties: Sequence[Party], rounds: int, say: Callable[[str], None]) -> list[Measured]:
    """Measure every party once per round, so that other load affects all of them."""
    samples: dict[str, list[Sample]] = {party.name: [] for party in parties}
    for number in range(1, rounds + 1):
        for party in parties:
            sample = party.measure()
            samples[party.name].append(sample)
            say(f"  {number}/{rounds} {party.name}: {sample.value:,.4g}{_cost(sample)}")
    return [Measured(name, taken) for name, taken in samples.items()]


def _cost(sample: Sample) -> str:
    """Say what each item cost, as: (CPU of each: party 0.16 ms, postgres 0.02 ms)."""
    if not (sample.count and sample.cpu_s):
        return ""
    each = (f"{group} {seconds / sample.count * 1000:.3f} ms" for group, seconds in sample.cpu_s.items())
    return f" (CPU of each: {', '.join(each)})"
