"""Several worker processes, on this machine and on others, with one PostgreSQL and one gateway."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial

from bench import machines, senders
from bench.lab import Lab
from bench.measure import Goal, Party, Sample, Stage
from bench.senders import dispatch
from bench.stub import running_stub

NUMBERS = (1, 2, 4)
AT_ONCE, SLOW, APART = "at once", "50 ms", "50 ms, machines of their own"


@contextmanager
def _parties(lab: Lab) -> Iterator[list[Party]]:
    count = lab.count(30_000, quick=1_000)

    def here(gateway: str, processes: int) -> Sample:
        with senders.ours(lab, gateway=gateway, processes=processes) as sender:
            return dispatch(lab, sender, count)

    with senders.planned_mailing(lab, count), ExitStack() as stack:
        parties = [
            Party(_name(answers, processes), partial(here, gateway, processes))
            for answers, gateway in ((AT_ONCE, lab.stub.url), (SLOW, lab.stub.slow_url))
            for processes in NUMBERS
        ]
        if machines.possible():
            measure = partial(_apart, stack.enter_context(_reachable(lab)), count)
            parties.append(Party(_name(APART, 2), measure))
        yield parties


@contextmanager
def _reachable(lab: Lab) -> Iterator[Lab]:
    """Let PostgreSQL and a gateway of its own listen on HOST too."""
    home = lab.directory / "gateway-apart"
    with machines.address(), lab.listening_on(machines.HOST), running_stub(home, host=machines.HOST) as stub:
        yield replace(lab, stub=stub)


def _apart(lab: Lab, count: int) -> Sample:
    ours = partial(senders.ours, lab, gateway=lab.stub.slow_url, host=machines.HOST)
    with machines.machines(2) as apart, ours(machines=apart) as sender:
        return dispatch(lab, sender, count)


def _name(answers: str, processes: int) -> str:
    return f"{answers}, {processes}"


STAGE = Stage(
    name="processes",
    title="Dispatch by several worker processes, 64 connections each",
    unit="messages/s",
    parties=_parties,
    needs=("nginx",),
    goals=(Goal(_name(SLOW, 2), _name(SLOW, 1), least=1.8),),
    notes=(
        (
            "All share the processors with PostgreSQL and nginx, so those are the limit, and not what they would do "
            "apart. Machines of their own are two network namespaces, joined by a veth pair each, with a worker "
            "process in each; they are tried as root only."
        ),
    ),
)
