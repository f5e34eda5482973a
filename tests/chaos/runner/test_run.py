"""The fault run in small: a worker dies at each named point, the database breaks, people change their minds."""

import signal
from pathlib import Path

import pytest

from chaos.run import run, trials
from chaos.runner.audience import parts, rows
from chaos.runner.fault_player import LASTING
from chaos.runner.report import promises
from chaos.runner.timeline import FULL, POINTS, Trial, timeline

pytestmark = pytest.mark.slow

SEED = 1


@pytest.mark.timeout(400)  # a minute of work; the rest is patience with a busy machine
async def test_workers_die_at_every_named_point_and_every_promise_is_kept(tmp_path: Path) -> None:
    (small,) = trials("small", None)
    record = await run(small, seed=SEED, directory=tmp_path, fsync=False)
    assert {kill.point for kill in record.kills} == set(POINTS)
    killed = {(end.name, end.pid) for end in record.ends if end.status == -signal.SIGKILL}
    assert killed == {(kill.name, kill.pid) for kill in record.kills}
    assert [promise for promise in promises(record) if not promise.kept and not promise.is_timed] == []
    assert record.violations == []


def test_the_same_seed_gives_the_same_timeline_and_another_seed_another() -> None:
    assert timeline(FULL, 1) == timeline(FULL, 1) != timeline(FULL, 2)


def test_the_full_timeline_has_every_fault_that_is_promised() -> None:
    kinds = [str(event.kind) for event in timeline(FULL, 1)]
    promised = {"kill": 60, "restart": 5, "terminate": 20, "freeze": 10, "outage": 3, "lock": 2}
    promised |= {"churn": 8, "swarm": 1, "extend": 3}
    assert {kind: kinds.count(kind) for kind in promised} == promised
    assert {event.point for event in timeline(FULL, 1)} - {""} == set(POINTS)


@pytest.mark.parametrize("trial", [*trials("full", None), *trials("small", None)], ids=lambda trial: trial.name)
def test_every_client_belongs_to_one_part_and_the_messages_are_as_many_as_was_said(trial: Trial) -> None:
    found = parts(trial)
    assert sum(part.count * part.mailings for part in found.values()) == trial.messages
    assert [client for part in found.values() for client in part.ids] == list(range(1, len(list(rows(trial))) + 1))
    assert {event.target for event in timeline(trial, 1) if event.kind in LASTING} <= found.keys()
