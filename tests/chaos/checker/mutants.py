"""Bugs that senders like this one have had, as changes to the product; the checker has to find each of them."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime
from importlib import import_module
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from msgspec import Struct
from msgspec.structs import replace
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from chaos.checker.scenarios import (
    Scenario,
    abroad,
    calm,
    cut_short,
    deleted,
    gone_while_planned,
    left,
    lost,
    moved_before_planned,
    moved_on,
    moved_while_planned,
    other_hours,
    overtaken,
    paused,
    reported,
    reworded,
    row_locked,
    row_refused,
    scheduled,
    slow,
    stopped,
    trouble,
    withdrawn,
)
from mailing.database.read_pool import ReadPool
from mailing.gateway.outcome import STATUSES, Answer, Outcome, Response
from mailing.gateway.providers.probe import classify
from mailing.gateway.providers.receipt import Receipt
from mailing.mailings.states import MailingStatus
from mailing.messages.claim import ClaimedMessage, claim
from mailing.messages.leases import RetryPolicy, claimed_since_plan
from mailing.messages.low_watermark import FROM_LOW_WATERMARK, PENDING
from mailing.messages.results import CallResult, Transition
from mailing.receipts.repository import Stored
from mailing.sending.local_hours import LocalHours
from mailing.sending.recording import ResultRecorder
from mailing.sending.retry_policy import RetryContext, decide
from mailing.timezones import zone_named

Patch = Callable[[pytest.MonkeyPatch], None]


class Mutant(Struct, frozen=True):
    """`schema` is what it changes in the test's own database."""

    invariant: str
    scenario: Scenario
    patches: tuple[Patch, ...]
    schema: tuple[str, ...]


def mutant(invariant: str, scenario: Scenario, *patches: Patch, schema: tuple[str, ...] = ()) -> Mutant:
    return Mutant(invariant, scenario, patches, schema)


def instead(name: str, other: object) -> Patch:
    """`other` in the place of the module's member, as its users look it up."""
    return lambda monkeypatch: monkeypatch.setattr(name, other)


def sql(statement: str, old: str, new: str) -> Patch:
    """`old` becomes `new` wherever it stands in the module's statement."""

    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        module, _, name = statement.rpartition(".")
        present: Any = getattr(import_module(module), name)
        words = present if isinstance(present, str) else present.text
        assert old in words, f"{statement} has no {old!r} any more: adapt the mutant"
        changed = words.replace(old, new)
        monkeypatch.setattr(statement, changed if isinstance(present, str) else text(changed))

    return patch


def by_code_alone(response: Response, message_id: int) -> Answer:
    if response.status == 200:
        return Answer(Outcome.accepted, response.status)
    return classify(response, message_id)


def forgetful(answer: Answer, message: ClaimedMessage, policy: RetryPolicy, moment: RetryContext) -> Transition:
    return replace(decide(answer, message, policy, moment), maybe_accepted=False)


def in_utc(_name: str) -> ZoneInfo:
    return zone_named("UTC")


def at_once(_starts_at: datetime, _now: datetime) -> MailingStatus:
    return MailingStatus.running


def losing_the_first() -> Callable[..., Awaitable[list[ClaimedMessage]]]:
    lost = False

    async def claim_and_lose(
        session: AsyncSession, mailing_id: int, count: int, **options: bool
    ) -> list[ClaimedMessage]:
        nonlocal lost
        savepoint = await session.begin_nested()
        claimed = await claim(session, mailing_id, count, **options)
        if claimed and not lost:
            lost = True
            await savepoint.rollback()
        return claimed

    return claim_and_lose


async def anything_goes(_session: AsyncSession, ids: Iterable[int], **_options: object) -> tuple[set[int], datetime]:
    return set(ids), datetime.now(UTC)


async def at_any_time(_session: AsyncSession) -> bool:
    """No plan waits for a change, no change for a plan."""
    return True


def whenever(_hours: LocalHours, claimed: Iterable[ClaimedMessage]) -> tuple[list[ClaimedMessage], list[int]]:
    """Nobody looks again at the local hours of what is claimed."""
    return list(claimed), []


async def store_none(_pool: ReadPool, _receipts: Sequence[Receipt]) -> Stored:
    return Stored(0, 0, 0, 0, 0, ())


def believing(path: str, **_of: object) -> int:
    """Take any address for one of ours."""
    return int(path.rpartition("/")[2].partition(".")[0])


def none_is_left(_recorder: ResultRecorder, *_batch: object, **_refusals: int) -> list[Sequence[CallResult]]:
    return []


CLAIM = "mailing.messages.claim._CLAIM"
STILL_ALLOWED = "mailing.messages.claim._STILL_ALLOWED"
RECORD = "mailing.messages.results._RECORD"
RECLAIM = "mailing.messages.leases._RECLAIM"
BEGIN_PLAN = "mailing.mailings.repository._CLAIM_PLAN"
PLAN = "mailing.messages.planning._PLAN"
UNREACHABLE = "mailing.messages.claim._CANCEL_UNREACHABLE"
SLICE = "mailing.messages.planning._SLICE"
CLAIMED_SINCE_PLAN = claimed_since_plan(":lease_s")


LOCKS = (
    instead("mailing.sending.plan.lock_for_plan", at_any_time),
    instead("mailing.sending.finalize.lock_for_plan", at_any_time),
)
ANY_TRANSITION = 'DROP TRIGGER "00_check_transitions" ON message'

MUTANTS = {
    "a client is planned twice": mutant(
        "I1",
        calm,
        sql(PLAN, "FROM client c WHERE", "FROM client c CROSS JOIN generate_series(1, 2) WHERE"),
        schema=(
            "ALTER TABLE message DROP CONSTRAINT message_once",
            "ALTER TABLE message ADD CONSTRAINT message_once UNIQUE (client_id, mailing_id, id)",
        ),
    ),
    "the last client of a slice is left out": mutant("I1", calm, sql(PLAN, "{scan}", "{scan} AND c.id < :upto")),
    "the plan overlooks opt-outs": mutant(
        "I1", calm, sql(PLAN, "AND NOT c.opted_out", ""), sql(SLICE, "AND NOT c.opted_out", "")
    ),
    "a client that moves while a plan is made gets no message": mutant(
        "I1", moved_before_planned, sql(PLAN, "LEFT JOIN (", "JOIN (")
    ),
    "a client moves beside a plan, and its message keeps the hours of the old zone": mutant(
        "I7", moved_while_planned, *LOCKS, instead("mailing.sending.local_hours.LocalHours.divide", whenever)
    ),
    "a client leaves beside a plan, and nobody may claim its message": mutant(
        "I2", gone_while_planned, *LOCKS, sql(UNREACHABLE, "status = 'pending' AND", "false AND")
    ),
    "a batch of outcomes is lost": mutant("I2", calm, sql(RECORD, "(r.fits OR r.late)", "false")),
    "sent is written before the call": mutant(
        "I3",
        calm,
        sql(CLAIM, "status = 'sending'", "status = 'sent'"),
        sql(
            CLAIM,
            "lease_until = now() + make_interval(secs => :lease_s)",
            "counted_attempts = 1, finished_at = now()",
        ),
        schema=(ANY_TRANSITION,),
    ),
    "the HTTP code is looked at and not the body": mutant(
        "I3", trouble, instead("mailing.gateway.providers.probe.classify", by_code_alone)
    ),
    "a server error is taken for a refusal": mutant(
        "I4", trouble, lambda monkeypatch: monkeypatch.setitem(STATUSES, 500, Outcome.refused)
    ),
    "a message whose lease ran out is called expired": mutant(
        "I4",
        lost,
        sql(RECLAIM, "ELSE 'pending' END, maybe_accepted = true", "ELSE 'expired' END, maybe_accepted = false"),
        sql(RECLAIM, "finished_at = CASE WHEN l.ends THEN now() END", "finished_at = now()"),
    ),
    "it is forgotten that an attempt may have arrived": mutant(
        "I4", withdrawn, instead("mailing.sending.send_loop.decide", forgetful)
    ),
    "a result counts under somebody else's lease": mutant(
        "I4", overtaken, sql(RECORD, "m.status = d.was AND m.claim_no = d.number AS fits", "m.status = d.was AS fits")
    ),
    "what was sent is claimed again": mutant(
        "I5",
        paused,
        sql(CLAIM, PENDING, f"({PENDING} OR status = 'sent' AND claim_no = 1)"),
        sql(CLAIM, "claim_no = m.claim_no + 1", "claim_no = m.claim_no + 1, finished_at = NULL"),
        sql(CLAIM, f"AND {FROM_LOW_WATERMARK}", ""),
        schema=(ANY_TRANSITION,),
    ),
    "a lost worker's message is called again as if it had never been called": mutant(
        "I5",
        lost,
        sql(RECLAIM, "maybe_accepted = true", "maybe_accepted = false"),
        sql(RECLAIM, "now(), 'ambiguous'", "now(), 'not_sent'"),
        sql(RECORD, "WHERE outcome IS NOT NULL", "WHERE outcome IS NOT NULL AND NOT repeated"),  # the dead say nothing
    ),
    "an acceptance that comes late takes the place of the doubt that led to the repeat": mutant(
        "I5", lost, sql(RECORD, "CASE WHEN repeated THEN 'ambiguous' ELSE outcome END", "outcome")
    ),
    "a row that somebody holds keeps the outcomes of all others back": mutant(
        "I12", row_locked, sql(RECORD, "FOR NO KEY UPDATE SKIP LOCKED", "FOR NO KEY UPDATE")
    ),
    "a row that refuses its outcome takes all others with it": mutant(
        "I12", row_refused, instead("mailing.sending.recording.ResultRecorder._split", none_is_left)
    ),
    "what was ended by the old end stays ended when it has been moved on": mutant(
        "I11", moved_on, sql(RECORD, "(NOT r.by_plan OR g.plan_revision = :revision AND NOT r.voided)", "true")
    ),
    "attempts are not written down": mutant(
        "I6", calm, sql(RECORD, "FROM result WHERE outcome IS NOT NULL", "FROM result WHERE false")
    ),
    "the claim is not committed before the call": mutant(
        "I6", calm, lambda monkeypatch: monkeypatch.setattr("mailing.sending.claiming.claim", losing_the_first())
    ),
    "a mailing begins when it is made and not at its start": mutant(
        "I7",
        scheduled,
        instead("mailing.mailings.states.released_status", at_once),
        sql(BEGIN_PLAN, "AND starts_at <= now()", ""),
        sql(CLAIM, "AND now() >= g.starts_at", ""),
        sql(STILL_ALLOWED, "AND now() >= g.starts_at", ""),
    ),
    "the window is compared with UTC": mutant("I7", abroad, instead("mailing.mailings.window.zone_named", in_utc)),
    "a pause is not seen before the call": mutant("I7", paused, sql(STILL_ALLOWED, "g.status = 'running' AND", "")),
    "the stop of all sending is not seen before the call": mutant(
        "I7", stopped, sql(STILL_ALLOWED, "w.stopped_at IS NULL AND", "")
    ),
    "nothing is looked at before the call": mutant(
        "I7", deleted, instead("mailing.sending.revalidation.still_allowed", anything_goes)
    ),
    "the end is not looked at before the call": mutant(
        "I7", cut_short, sql(STILL_ALLOWED, "AND now() < g.ends_at", ""), sql(STILL_ALLOWED, CLAIMED_SINCE_PLAN, "true")
    ),
    "new hours are not looked at before the call": mutant(
        "I7", other_hours, sql(STILL_ALLOWED, CLAIMED_SINCE_PLAN, "true")
    ),
    "an opt-out is not seen before the call": mutant(
        "I7", left, sql(STILL_ALLOWED, "AND NOT c.opted_out", ""), sql(STILL_ALLOWED, "m.closes_at > now()", "true")
    ),
    "two workers may claim the same message": mutant(
        "I8",
        slow,
        sql(CLAIM, "status = 'pending' AND", "(status = 'pending' OR status = 'sending' AND claim_no = 1) AND"),
        sql(CLAIM, f"AND {FROM_LOW_WATERMARK}", ""),
    ),
    "a repeat takes the new text": mutant(
        "I9",
        reworded,
        sql(CLAIM, "CASE WHEN m.maybe_accepted THEN m.text_revision ELSE g.text_revision END", "g.text_revision"),
    ),
    "a repeat goes to the new phone": mutant(
        "I9", reworded, sql(CLAIM, "CASE WHEN m.maybe_accepted THEN m.phone ELSE c.phone END", "c.phone")
    ),
    "a receipt is answered and not stored": mutant(
        "I13", reported, instead("mailing.receipts.inbox.store", store_none)
    ),
    "a receipt is counted twice": mutant(
        "I13",
        reported,
        schema=(
            """CREATE TRIGGER count_again AFTER INSERT ON receipt
               REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION count_receipts()""",
        ),
    ),
    "the last receipt wins, and not the strongest": mutant(
        "I13",
        reported,
        sql("mailing.receipts.repository._STORE", "WHERE r.state < excluded.state", ""),
    ),
    "a forged receipt is believed": mutant("I13", reported, instead("mailing.receipts.routes.message_of", believing)),
    "the counters do not follow the messages": mutant(
        "I10", calm, schema=('DROP TRIGGER "10_count_moved" ON message',)
    ),
    "the report counts failures as sent": mutant(
        "I10", calm, sql("mailing.reports.repository._MAILINGS", "status = 'sent'", "status = 'failed'")
    ),
}
