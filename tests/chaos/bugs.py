"""Bugs to plant into the product, each with the scenario that shows it and the invariant that it breaks.

A bug is a list of changes: a statement's words, a function, or the schema of the test's own database.
"""

import importlib
from collections.abc import Callable, Sequence
from typing import Any, Final

import pytest
from msgspec import Struct
from msgspec.structs import replace
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from chaos import scenarios
from chaos.scenarios import Scenario
from chaos.stage import PATIENCE_S
from mailing.gateway.outcome import Answer, Outcome, classify
from mailing.mailings.rules import Status as MailingStatus
from mailing.messages.openings import plan_slice
from mailing.messages.repository import Claimed, Step, claim
from mailing.messages.states import Status
from mailing.sending.next_step import Moment, Policy, after_call
from mailing.zones import zone_named

Change = Callable[[pytest.MonkeyPatch], None]
ROWS: Final = "mailing.messages.repository"
PLANS: Final = "mailing.messages.openings"


class Bug(Struct, frozen=True, kw_only=True):
    """`patience_s`: where all never becomes quiet, how long to wait before the check."""

    name: str
    breaks: str
    shown_by: Scenario
    changes: Sequence[Change] = ()
    schema: Sequence[str] = ()
    patience_s: float = PATIENCE_S

    def plant(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for change in self.changes:
            change(monkeypatch)


def words(module: str, name: str, old: str, new: str) -> Change:
    """Each occurrence of `old` in a statement is replaced."""

    def change(monkeypatch: pytest.MonkeyPatch) -> None:
        home = importlib.import_module(module)
        statement = str(getattr(home, name).text)
        assert old in statement, f"{module}.{name} has no {old!r} any more"
        monkeypatch.setattr(home, name, text(statement.replace(old, new)))

    return change


def function(where: str, replacement: Any) -> Change:  # noqa: ANN401 - a function of any shape
    def change(monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(where, replacement)

    return change


async def _claim_as_sent(session: AsyncSession, mailing_id: int, count: int, *, probe: bool = False) -> list[Claimed]:
    claimed = await claim(session, mailing_id, count, probe=probe)
    done = """
        UPDATE message SET status = 'sent', attempts = 1, lease_until = NULL, finished_at = now()
        WHERE id = ANY(:ids)"""
    await session.execute(text(done), {"ids": [message.id for message in claimed]})
    return claimed


def _claim_lost_once() -> Any:  # noqa: ANN401 - as claim
    """The calls of the first claim are made although it is never committed."""
    lost: list[Claimed] = []

    async def changed(session: AsyncSession, mailing_id: int, count: int, *, probe: bool = False) -> list[Claimed]:
        if lost:
            return await claim(session, mailing_id, count, probe=probe)
        attempt = await session.begin_nested()
        lost.extend(await claim(session, mailing_id, count, probe=probe))
        await attempt.rollback()
        return lost

    return changed


async def _plan_twice(session: AsyncSession, *args: Any, **bounds: Any) -> int:  # noqa: ANN401 - as plan_slice
    return await plan_slice(session, *args, **bounds) + await plan_slice(session, *args, **bounds)


async def _all_allowed(_: AsyncSession, ids: Sequence[int], *, probes: Sequence[int] = ()) -> set[int]:
    return {*ids, *probes}


async def _no_rows(*_: Any, **__: Any) -> int:  # noqa: ANN401 - as many functions
    return 0


def _by_status_alone(status: int, *args: Any, **kwargs: Any) -> Answer:  # noqa: ANN401 - as classify
    return Answer(Outcome.accepted, status, 0) if status == 200 else classify(status, *args, **kwargs)


def _error_is_refusal(status: int, *args: Any, **kwargs: Any) -> Answer:  # noqa: ANN401 - as classify
    return Answer(Outcome.refused, status) if status >= 500 else classify(status, *args, **kwargs)


def _once_more(answer: Answer, message: Claimed, policy: Policy, moment: Moment) -> Step:
    step = after_call(answer, message, policy, moment)
    return replace(step, status=Status.pending) if message.number == 1 and step.status is Status.sent else step


IN_TIME: Final = "AND now() < g.ends_at"
SINCE_START: Final = "AND now() >= g.starts_at"
NOT_OPTED_OUT: Final = "AND NOT c.opted_out"

BUGS: Final = [
    Bug(
        name="a client gets no message: the plan leaves out the first of each slice",
        breaks="I1",
        shown_by=scenarios.calm,
        changes=[words(PLANS, "_PLAN", "c.id > :after", "c.id > :after + 1")],
    ),
    Bug(
        name="a client gets two messages: planned twice, and nothing keeps them apart",
        breaks="I1",
        shown_by=scenarios.calm,
        changes=[
            words(PLANS, "_PLAN", "CONSTRAINT message_once DO UPDATE SET", "CONSTRAINT message_pkey DO UPDATE SET"),
            function("mailing.sending.plan.plan_slice", _plan_twice),
        ],
        schema=["ALTER TABLE message DROP CONSTRAINT message_once"],
    ),
    Bug(
        name="leases of lost workers are never found",
        breaks="I2",
        shown_by=scenarios.worker_dies_during_calls,
        changes=[function("mailing.sending.sweep.reclaim_lost", _no_rows)],
        patience_s=3.0,
    ),
    Bug(
        name="sent is written with the claim, before the call",
        breaks="I3",
        shown_by=scenarios.faulty_gateway,
        changes=[function("mailing.sending.send.claim", _claim_as_sent)],
    ),
    Bug(
        name="the status code is believed and the body not read",
        breaks="I3",
        shown_by=scenarios.faulty_gateway,
        changes=[function("mailing.gateway.client.classify", _by_status_alone)],
    ),
    Bug(
        name="a 5xx is taken for a refusal",
        breaks="I4",
        shown_by=scenarios.faulty_gateway,
        changes=[function("mailing.gateway.client.classify", _error_is_refusal)],
    ),
    Bug(
        name="a lost worker's message is expired as if it had never been called",
        breaks="I4",
        shown_by=scenarios.worker_dies_during_calls,
        changes=[
            words(ROWS, "_RECLAIM", "CASE WHEN :hold THEN 'unknown' ELSE 'pending' END", "'expired'"),
            words(ROWS, "_RECLAIM", "ambiguous = true", "ambiguous = NOT :hold AND false"),
            words(ROWS, "_RECLAIM", "CASE WHEN :hold THEN now() END", "now()"),
        ],
    ),
    Bug(
        name="a lost worker's message is called again as if it had never been called",
        breaks="I5",
        shown_by=scenarios.worker_dies_during_calls,
        changes=[
            words(ROWS, "_RECLAIM", "ambiguous = true", "ambiguous = false"),
            words(ROWS, "_RECLAIM", "now(), 'ambiguous'", "now(), 'not_sent'"),
        ],
    ),
    Bug(
        name="a sent message is tried once more",
        breaks="I5",
        shown_by=scenarios.calm,
        changes=[function("mailing.sending.send.after_call", _once_more)],
    ),
    Bug(
        name="no fence: a result counts under somebody else's lease",
        breaks="I5",
        shown_by=scenarios.lost_worker_comes_back,
        changes=[words(ROWS, "_RECORD", "AND m.attempt_no = d.number", "")],
    ),
    Bug(
        name="calls are made under a claim that is not committed",
        breaks="I6",
        shown_by=scenarios.calm,
        changes=[
            function("mailing.sending.send.claim", _claim_lost_once()),
            function("mailing.sending.watch.still_allowed", _all_allowed),
        ],
    ),
    Bug(
        name="attempts are not written down",
        breaks="I6",
        shown_by=scenarios.calm,
        changes=[words(ROWS, "_RECORD", "FROM result WHERE outcome IS NOT NULL", "FROM result WHERE false")],
    ),
    Bug(
        name="a mailing begins when it is made, not at its start",
        breaks="I7",
        shown_by=scenarios.scheduled_start,
        changes=[
            function("mailing.mailings.rules.status_at_creation", lambda *_: MailingStatus.running),
            words("mailing.mailings.repository", "_BEGIN_PLAN", "AND starts_at <= now()", ""),
            words(ROWS, "_CLAIM", SINCE_START, ""),
            words(ROWS, "_STILL_ALLOWED", SINCE_START, ""),
        ],
    ),
    Bug(
        name="the end is not looked at between the claim and the call",
        breaks="I7",
        shown_by=scenarios.end_during_a_call,
        changes=[
            words(ROWS, "_CLAIM", "least(m.closes_at, g.ends_at)", "now() + interval '1 day'"),
            words(ROWS, "_STILL_ALLOWED", IN_TIME, ""),
            words(ROWS, "_STILL_ALLOWED", "AND m.closes_at > now()", ""),
        ],
    ),
    Bug(
        name="the window is compared with UTC",
        breaks="I7",
        shown_by=scenarios.closed_window,
        changes=[function("mailing.sending.schedule.zone_named", lambda _: zone_named("UTC"))],
    ),
    Bug(
        name="a pause is not looked at between the claim and the call",
        breaks="I7",
        shown_by=scenarios.pause_during_a_call,
        changes=[function("mailing.sending.watch.still_allowed", _all_allowed)],
    ),
    Bug(
        name="an edit of the window leaves what is claimed as it was",
        breaks="I7",
        shown_by=scenarios.edit_closes_the_window,
        changes=[function("mailing.sending.plan.void_openings_under_way", _no_rows)],
    ),
    Bug(
        name="an opt-out is only for the next mailing",
        breaks="I7",
        shown_by=scenarios.opt_out_while_waiting,
        changes=[
            function("mailing.clients.repository.cancel_of_client", _no_rows),
            words(ROWS, "_CLAIM", NOT_OPTED_OUT, ""),
            words(ROWS, "_STILL_ALLOWED", NOT_OPTED_OUT, ""),
        ],
    ),
    Bug(
        name="what is claimed can be claimed again",
        breaks="I8",
        shown_by=scenarios.slow_gateway,
        changes=[
            words(ROWS, "_CLAIM", "status = 'pending' AND", "(status = 'pending' OR attempt_no = 1) AND"),
        ],
    ),
    Bug(
        name="a message that may have arrived is repeated with new words",
        breaks="I9",
        shown_by=scenarios.edit_after_an_ambiguous_call,
        changes=[
            words(
                ROWS, "_CLAIM", "CASE WHEN m.ambiguous THEN m.text_revision ELSE g.text_revision END", "g.text_revision"
            ),
        ],
    ),
    Bug(
        name="counters are not moved with the messages",
        breaks="I10",
        shown_by=scenarios.calm,
        schema=["DROP TRIGGER count_moved ON message"],
    ),
    Bug(
        name="the report counts what failed as sent",
        breaks="I10",
        shown_by=scenarios.faulty_gateway,
        changes=[
            words("mailing.reports.repository", "_MAILINGS", "WHERE status = 'sent'", "WHERE status <> 'expired'")
        ],
    ),
]
