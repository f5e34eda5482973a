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

from chaos.checker import scenarios
from chaos.checker.scenarios import Scenario
from mailing.gateway.outcome import STATUSES, Answer, Outcome, classify
from mailing.mailings.states import MailingStatus
from mailing.messages.claim import ClaimedMessage, claim
from mailing.messages.leases import claimed_since_plan
from mailing.messages.low_watermark import FROM_LOW_WATERMARK, PENDING
from mailing.messages.results import CallResult, Transition
from mailing.receipts.repository import _STORE as STORE
from mailing.receipts.repository import NewReceipt, Stored
from mailing.sending.recording import ResultRecorder
from mailing.sending.retry_policy import RetryContext, RetryPolicy, decide
from mailing.timezones import zone_named

Patch = Callable[[pytest.MonkeyPatch], None]


class Mutant(Struct, frozen=True, kw_only=True):
    """`schema` is what it changes in the test's own database."""

    bug: str
    scenario: Scenario
    invariant: str
    patches: tuple[Patch, ...] = ()
    schema: tuple[str, ...] = ()


def instead(name: str, other: object) -> Patch:
    """`other` in the place of the module's member, as its users look it up."""
    return lambda monkeypatch: monkeypatch.setattr(name, other)


def sql(statement: str, old: str, new: str) -> Patch:
    """`old` becomes `new` wherever it stands in the module's statement."""

    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        module, _, name = statement.rpartition(".")
        present: Any = getattr(import_module(module), name)
        assert old in present.text, f"{statement} has no {old!r} any more: adapt the mutant"
        monkeypatch.setattr(statement, text(present.text.replace(old, new)))

    return patch


def by_code_alone(status: int, retry_after: str | None, body: bytes, *, message_id: int, now: datetime) -> Answer:
    if status == 200:
        return Answer(Outcome.accepted, status)
    return classify(status, retry_after, body, message_id=message_id, now=now)


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


async def store_none(_session: AsyncSession, _receipts: Sequence[NewReceipt]) -> Stored:
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

MUTANTS = (
    Mutant(
        bug="a client is planned twice",
        scenario=scenarios.calm,
        invariant="I1",
        patches=(sql(PLAN, "FROM client c\n", "FROM client c CROSS JOIN generate_series(1, 2)\n"),),
        schema=(
            "ALTER TABLE message DROP CONSTRAINT message_once",
            "ALTER TABLE message ADD CONSTRAINT message_once UNIQUE (client_id, mailing_id, id)",
        ),
    ),
    Mutant(
        bug="the last client of a slice is left out",
        scenario=scenarios.calm,
        invariant="I1",
        patches=(sql(PLAN, "{scan}", "{scan} AND c.id < :upto"),),
    ),
    Mutant(
        bug="the plan overlooks opt-outs",
        scenario=scenarios.calm,
        invariant="I1",
        patches=(sql(PLAN, "AND NOT c.opted_out", ""), sql(SLICE, "AND NOT c.opted_out", "")),
    ),
    Mutant(
        bug="whoever moves while a plan is made has no zone in it, and no message",
        scenario=scenarios.moved_before_planned,
        invariant="I1",
        patches=(sql(PLAN, "LEFT JOIN (", "JOIN ("),),
    ),
    Mutant(
        bug="a client moves beside a plan, and its message keeps the hours of the old zone",
        scenario=scenarios.moved_while_planned,
        invariant="I7",
        patches=LOCKS,
    ),
    Mutant(
        bug="a client leaves beside a plan, and nobody may claim its message",
        scenario=scenarios.gone_while_planned,
        invariant="I2",
        patches=(*LOCKS, sql(UNREACHABLE, "status = 'pending' AND", "false AND")),
    ),
    Mutant(
        bug="a batch of outcomes is lost",
        scenario=scenarios.calm,
        invariant="I2",
        patches=(sql(RECORD, "(r.fits OR r.late)", "false"),),
    ),
    Mutant(
        bug="sent is written before the call",
        scenario=scenarios.calm,
        invariant="I3",
        patches=(
            sql(CLAIM, "status = 'sending'", "status = 'sent'"),
            sql(
                CLAIM,
                "lease_until = now() + make_interval(secs => :lease_s)",
                "counted_attempts = 1, finished_at = now()",
            ),
        ),
        schema=(ANY_TRANSITION,),
    ),
    Mutant(
        bug="the HTTP code is looked at and not the body",
        scenario=scenarios.trouble,
        invariant="I3",
        patches=(instead("mailing.gateway.outcome.classify", by_code_alone),),
    ),
    Mutant(
        bug="a server error is taken for a refusal",
        scenario=scenarios.trouble,
        invariant="I4",
        patches=(lambda monkeypatch: monkeypatch.setitem(STATUSES, 500, Outcome.refused),),
    ),
    Mutant(
        bug="a message whose lease ran out is called expired",
        scenario=scenarios.lost,
        invariant="I4",
        patches=(
            sql(RECLAIM, "ELSE 'pending' END, maybe_accepted = true", "ELSE 'expired' END, maybe_accepted = false"),
            sql(RECLAIM, "finished_at = CASE WHEN l.ends THEN now() END", "finished_at = now()"),
        ),
    ),
    Mutant(
        bug="it is forgotten that an attempt may have arrived",
        scenario=scenarios.withdrawn,
        invariant="I4",
        patches=(instead("mailing.sending.send_loop.decide", forgetful),),
    ),
    Mutant(
        bug="a result counts under somebody else's lease",
        scenario=scenarios.overtaken,
        invariant="I4",
        patches=(sql(RECORD, "m.status = d.was AND m.claim_no = d.number AS fits", "m.status = d.was AS fits"),),
    ),
    Mutant(
        bug="what was sent is claimed again",
        scenario=scenarios.paused,
        invariant="I5",
        patches=(
            sql(CLAIM, PENDING, f"({PENDING} OR status = 'sent' AND claim_no = 1)"),
            sql(CLAIM, "claim_no = m.claim_no + 1", "claim_no = m.claim_no + 1, finished_at = NULL"),
            sql(CLAIM, f"AND {FROM_LOW_WATERMARK}", ""),
        ),
        schema=(ANY_TRANSITION,),
    ),
    Mutant(
        bug="a lost worker's message is called again as if it had never been called",
        scenario=scenarios.lost,
        invariant="I5",
        patches=(
            sql(RECLAIM, "maybe_accepted = true", "maybe_accepted = false"),
            sql(RECLAIM, "now(), 'ambiguous'", "now(), 'not_sent'"),
            sql(
                RECORD, "WHERE outcome IS NOT NULL", "WHERE outcome IS NOT NULL AND NOT repeated"
            ),  # a dead one says nothing
        ),
    ),
    Mutant(
        bug="an acceptance that comes late takes the place of the doubt that led to the repeat",
        scenario=scenarios.lost,
        invariant="I5",
        patches=(sql(RECORD, "CASE WHEN repeated THEN 'ambiguous' ELSE outcome END", "outcome"),),
    ),
    Mutant(
        bug="a row that somebody holds keeps the outcomes of all others back",
        scenario=scenarios.row_locked,
        invariant="I12",
        patches=(sql(RECORD, "FOR NO KEY UPDATE SKIP LOCKED", "FOR NO KEY UPDATE"),),
    ),
    Mutant(
        bug="a row that refuses its outcome takes all others with it",
        scenario=scenarios.row_refused,
        invariant="I12",
        patches=(instead("mailing.sending.recording.ResultRecorder._split", none_is_left),),
    ),
    Mutant(
        bug="what was ended by the old end stays ended when it has been moved on",
        scenario=scenarios.moved_on,
        invariant="I11",
        patches=(sql(RECORD, "(NOT r.by_plan OR g.plan_revision = :revision)", "true"),),
    ),
    Mutant(
        bug="attempts are not written down",
        scenario=scenarios.calm,
        invariant="I6",
        patches=(sql(RECORD, "FROM result WHERE outcome IS NOT NULL", "FROM result WHERE false"),),
    ),
    Mutant(
        bug="the claim is not committed before the call",
        scenario=scenarios.calm,
        invariant="I6",
        patches=(lambda monkeypatch: monkeypatch.setattr("mailing.sending.claiming.claim", losing_the_first()),),
    ),
    Mutant(
        bug="a mailing begins when it is made and not at its start",
        scenario=scenarios.scheduled,
        invariant="I7",
        patches=(
            instead("mailing.mailings.states.released_status", at_once),
            sql(BEGIN_PLAN, "AND starts_at <= now()", ""),
            sql(CLAIM, "AND now() >= g.starts_at", ""),
            sql(STILL_ALLOWED, "AND now() >= g.starts_at", ""),
        ),
    ),
    Mutant(
        bug="the window is compared with UTC",
        scenario=scenarios.abroad,
        invariant="I7",
        patches=(instead("mailing.mailings.window.zone_named", in_utc),),
    ),
    Mutant(
        bug="a pause is not seen before the call",
        scenario=scenarios.paused,
        invariant="I7",
        patches=(sql(STILL_ALLOWED, "g.status = 'running' AND", ""),),
    ),
    Mutant(
        bug="the stop of all sending is not seen before the call",
        scenario=scenarios.stopped,
        invariant="I7",
        patches=(sql(STILL_ALLOWED, "w.stopped_at IS NULL AND", ""),),
    ),
    Mutant(
        bug="nothing is looked at before the call",
        scenario=scenarios.deleted,
        invariant="I7",
        patches=(instead("mailing.sending.revalidation.still_allowed", anything_goes),),
    ),
    Mutant(
        bug="the end is not looked at before the call",
        scenario=scenarios.cut_short,
        invariant="I7",
        patches=(sql(STILL_ALLOWED, "AND now() < g.ends_at", ""), sql(STILL_ALLOWED, CLAIMED_SINCE_PLAN, "true")),
    ),
    Mutant(
        bug="new hours are not looked at before the call",
        scenario=scenarios.other_hours,
        invariant="I7",
        patches=(sql(STILL_ALLOWED, CLAIMED_SINCE_PLAN, "true"),),
    ),
    Mutant(
        bug="an opt-out is not seen before the call",
        scenario=scenarios.left,
        invariant="I7",
        patches=(sql(STILL_ALLOWED, "AND NOT c.opted_out", ""), sql(STILL_ALLOWED, "m.closes_at > now()", "true")),
    ),
    Mutant(
        bug="two workers may claim the same message",
        scenario=scenarios.slow,
        invariant="I8",
        patches=(
            sql(CLAIM, "status = 'pending' AND", "(status = 'pending' OR status = 'sending' AND claim_no = 1) AND"),
            sql(CLAIM, f"AND {FROM_LOW_WATERMARK}", ""),
        ),
    ),
    Mutant(
        bug="a repeat takes the new text",
        scenario=scenarios.reworded,
        invariant="I9",
        patches=(
            sql(CLAIM, "CASE WHEN m.maybe_accepted THEN m.text_revision ELSE g.text_revision END", "g.text_revision"),
        ),
    ),
    Mutant(
        bug="a repeat goes to the new phone",
        scenario=scenarios.reworded,
        invariant="I9",
        patches=(sql(CLAIM, "CASE WHEN m.maybe_accepted THEN m.phone ELSE c.phone END", "c.phone"),),
    ),
    Mutant(
        bug="a receipt is answered and not stored",
        scenario=scenarios.reported,
        invariant="I13",
        patches=(instead("mailing.receipts.inbox.store", store_none),),
    ),
    Mutant(
        bug="a receipt is counted twice",
        scenario=scenarios.reported,
        invariant="I13",
        schema=(
            """CREATE TRIGGER count_again AFTER INSERT ON receipt
               REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION count_receipts()""",
        ),
    ),
    Mutant(
        bug="the last receipt wins, and not the strongest",
        scenario=scenarios.reported,
        invariant="I13",
        patches=(instead("mailing.receipts.repository._STORE", STORE.replace("WHERE r.state < excluded.state", "")),),
    ),
    Mutant(
        bug="a forged receipt is believed",
        scenario=scenarios.reported,
        invariant="I13",
        patches=(instead("mailing.receipts.routes.message_of", believing),),
    ),
    Mutant(
        bug="the counters do not follow the messages",
        scenario=scenarios.calm,
        invariant="I10",
        schema=('DROP TRIGGER "10_count_moved" ON message',),
    ),
    Mutant(
        bug="the report counts failures as sent",
        scenario=scenarios.calm,
        invariant="I10",
        patches=(sql("mailing.reports.repository._MAILINGS", "status = 'sent'", "status = 'failed'"),),
    ),
)
