"""Messages through a provider that reports each of them, and through one that reports none."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from bench import senders
from bench.children import Child, until
from bench.errors import BenchError
from bench.lab import Lab, mailing
from bench.measure import Goal, Party, Sample, Stage
from bench.senders import ROUND, Sender, dispatch
from bench.stages.api import serving
from mailing.process.ports import free_port

WITH, WITHOUT = "a receipt for each message", "no receipts"
DELIVERED = "SELECT coalesce(sum(delivered), 0) FROM receipt_counts WHERE mailing_id = 1"
KANNEL = {"gateway_provider": "kannel", "gateway_user": "bench", "gateway_token": "bench"}


@contextmanager
def _parties(lab: Lab) -> Iterator[list[Party]]:
    count = lab.count(60_000, quick=1_000)
    with senders.planned_mailing(lab, count):
        yield [Party(WITH, partial(_with, lab, count)), Party(WITHOUT, partial(_without, lab, count))]


def _without(lab: Lab, count: int) -> Sample:
    port = free_port()
    with _sending(lab, port, KANNEL) as sender:
        return dispatch(lab, sender, count)


def _with(lab: Lab, count: int) -> Sample:
    """Measure until the last result is stored. Raise BenchError unless every receipt is stored soon after it."""
    port = free_port()
    with _sending(lab, port, {**KANNEL, "public_url": f"http://127.0.0.1:{port}"}) as sender:
        key = lab.value(ROUND, "SELECT receipt_key FROM installation")
        given = {"key": bytes(key).hex(), "port": port, "count": count, "log": str(lab.stub.log)}
        with Child("bench.ours.report_receipts", given, lab.log) as provider:
            sample = dispatch(lab, _reported(sender, provider), count)
            until(lambda: lab.value(ROUND, DELIVERED) >= count, f"{count} receipts in the database")
            provider.finish()
            if provider.result != {"stored": count, "refused": 0}:
                raise BenchError(f"receipts: {provider.result} of {count}")
            return sample


@contextmanager
def _sending(lab: Lab, port: int, settings: Mapping[str, object]) -> Iterator[Sender]:
    """Start the worker, and the API beside it."""
    with (
        senders.ours(lab, gateway=lab.stub.kannel_url, settings=settings) as sender,
        serving(lab, mailing("api"), port, lab.mailing(ROUND, port=port, **settings)) as api,
    ):
        yield replace(sender, beside={"api": api})


def _reported(sender: Sender, provider: Child) -> Sender:
    def go() -> None:
        provider.go()
        sender.go()

    return replace(sender, go=go, beside={**sender.beside, "provider": provider.pid})


STAGE = Stage(
    name="dispatch-receipts",
    title="Dispatch by one worker, with a receipt for each message and without",
    unit="messages/s",
    parties=_parties,
    needs=("nginx",),
    goals=(Goal(WITH, WITHOUT, least=0.85),),
    notes=(
        "The time ends when the last result is stored. The run fails unless every receipt is stored, too, soon after.",
        "Worker, API, PostgreSQL, nginx and the sender of receipts share the machine.",
    ),
)
