"""Messages that become due one after another in a running mailing: how late each is at the gateway."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from bench import senders
from bench.children import until
from bench.lab import Lab
from bench.measure import Goal, Party, Sample, Stage
from bench.senders import ROUND

P50, P99, WORST, BOUND = "Mailing, median", "Mailing, 99th percentile", "Mailing, maximum", "2 s"
A_SECOND = 100
GAP_S = 5  # regular pauses in which nothing is due, so that the worker must be woken


@contextmanager
def _parties(lab: Lab) -> Iterator[list[Party]]:
    """Build three parties from one run: the first measures, the others report."""
    seconds = lab.count(20, quick=8)
    lateness: list[float] = []

    def run() -> Sample:
        lateness[:] = _run(lab, seconds)
        return percentile(0.5)

    def percentile(share: float) -> Sample:
        return Sample(lateness[min(int(share * len(lateness)), len(lateness) - 1)])

    with senders.planned_mailing(lab, seconds * A_SECOND):
        yield [
            Party(P50, run),
            Party(P99, lambda: percentile(0.99)),
            Party(WORST, lambda: percentile(1)),
            Party(BOUND, lambda: Sample(2.0)),
        ]


def _run(lab: Lab, seconds: int) -> list[float]:
    count = seconds * A_SECOND
    lab.stub.forget()
    with senders.ours(lab, gateway=lab.stub.url) as sender:
        # GAP_S with messages, then GAP_S without
        lab.sql(
            ROUND,
            f"""UPDATE message SET due_at = clock_timestamp() + interval '1 s'
                + make_interval(secs => GAP * (id / {A_SECOND * GAP_S}) * 2 + id % {A_SECOND * GAP_S} / {A_SECOND}.0)
            """.replace("GAP", str(GAP_S)),
        )
        due = dict(lab.sql(ROUND, "SELECT id, extract(epoch FROM due_at)::float FROM message"))
        sender.go()
        until(lambda: lab.stub.logged() >= count, f"{count} messages at the gateway", every_s=0.1)
    time.sleep(0.3)
    lab.stub.check(range(1, count + 1))
    return sorted(call.at - due[call.message_id] for call in lab.stub.calls())


STAGE = Stage(
    name="punctuality",
    title="From due to the gateway",
    unit="s",
    parties=_parties,
    needs=("nginx",),
    goals=(Goal(P99, BOUND, most=1),),
    notes=(
        (
            f"{A_SECOND} messages a second become due for {GAP_S} s, then none for {GAP_S} s, and so on, in a mailing "
            "that runs. From `due_at` to the gateway's answer."
        ),
    ),
)
