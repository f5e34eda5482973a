"""What the checker holds for right and for wrong, where no run of the product would show it."""

from datetime import time
from typing import Any

from msgspec.structs import replace

from chaos.checker.duplicates import KILLED, THAWED, UNEXPLAINED, account
from chaos.checker.facts import (
    Absence,
    Action,
    Attempt,
    Call,
    Client,
    Evidence,
    Kill,
    Mailing,
    Message,
    Receipt,
    Reported,
    Terms,
    Told,
    Traits,
)
from chaos.checker.invariants import check
from chaos.checker.versions import at, traits_of, versions_of_client
from mailing.mailings.window import LocalWindow

T = 1_000_000.0
TERMS = Terms(starts_at=T, ends_at=T + 3600, window=None, tags=[], operator_codes=[])
MAILING = Mailing(id=1, status="finished", terms=TERMS, texts=frozenset({"hi"}), audience_max_client_id=9, planned_at=T)
TRAITS = Traits(phone="79160000001", operator_code="916", tag=None, timezone="UTC")
MESSAGE = Message(id=7, mailing_id=1, client_id=1, status="sent", claim_no=1, maybe_accepted=False, finished_at=T + 500)


def call(began_s: float, *, accepted: bool = True, lasts_s: float = 1.0, how: str = "answered 200") -> Call:
    began_at = T + began_s
    accepted_at = began_at if accepted else None
    return Call(int(began_s), 7, 79160000001, "hi", began_at, accepted_at, began_at + lasts_s, how)


def attempt(
    number: int, began_s: float, outcome: str, lasts_s: float | None = 1.0, http_status: int | None = None
) -> Attempt:
    started_at = T + began_s
    return Attempt(
        message_id=7,
        number=number,
        started_at=started_at,
        duration_s=lasts_s,
        outcome=outcome,
        http_status=http_status,
    )


GOOD = Evidence(
    calls=[call(10)],
    messages=[MESSAGE],
    attempts=[attempt(1, 10, "accepted")],
    mailings=[MAILING],
    clients=[Client(1, TRAITS)],
    taken_at=T + 4000,
    absences=[Absence(T + 5, T + 100)],
)
NOBODY = replace(GOOD, calls=[], messages=[], attempts=[])


def broken(evidence: Evidence) -> list[str]:
    return [violation.invariant for violation in check(evidence)]


def api_client(**changes: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    return {name: getattr(TRAITS, name) for name in Traits.__struct_fields__} | changes


def twice(**changes: Any) -> Evidence:  # noqa: ANN401 - fields of Evidence
    """Build a message that was accepted at 10 s and at 80 s."""
    message = replace(MESSAGE, claim_no=2, maybe_accepted=True)
    return replace(GOOD, calls=[call(10), call(80)], messages=[message], **changes)


def test_a_message_sent_once_breaks_nothing() -> None:
    assert broken(GOOD) == []


def test_a_call_that_the_database_knows_nothing_of_has_no_intent() -> None:
    assert broken(replace(GOOD, messages=[], attempts=[], clients=[])) == ["I6", "I6"]


def test_a_repeat_needs_an_ambiguous_attempt_between_the_two_acceptances() -> None:
    dropped = [attempt(1, 10, "ambiguous"), attempt(2, 80, "accepted")]
    afterwards = [attempt(1, 10, "accepted"), attempt(2, 80, "ambiguous")]
    assert broken(twice(attempts=dropped)) == []
    assert broken(twice(attempts=afterwards, lease_left_s=71)) == ["I5"]


LATE = attempt(1, 10, "ambiguous", http_status=200)
"""An acceptance that was written down when the message had been claimed again."""


def test_an_acceptance_that_came_late_is_the_doubt_that_led_to_the_repeat() -> None:
    assert broken(twice(attempts=[LATE, attempt(2, 80, "accepted")])) == []
    assert broken(twice(attempts=[attempt(1, 10, "accepted"), attempt(2, 80, "accepted")])) == ["I5"]


def test_a_lease_may_be_lost_only_while_a_worker_is_or_somebody_holds_the_row() -> None:
    for first in (attempt(1, 75, "ambiguous", None), LATE):
        lost = twice(attempts=[first, attempt(2, 80, "accepted")])
        assert broken(lost) == []
        assert broken(replace(lost, absences=[])) == ["I12"]
        assert broken(replace(lost, absences=[Absence(T, T + 9)])) == ["I12"]
        assert broken(replace(lost, absences=[], locked=frozenset({7}))) == []
    answered_and_frozen = twice(attempts=[LATE, attempt(2, 80, "accepted")], absences=[Absence(T + 11, T + 100)])
    assert broken(answered_and_frozen) == []
    assert broken(replace(answered_and_frozen, absences=[Absence(T + 14, T + 100)])) == ["I12"]


def test_a_call_after_its_lease_was_lost_is_that_of_a_worker_that_was_frozen_before_it_wrote_it() -> None:
    late = replace(
        GOOD,
        calls=[call(99)],
        messages=[replace(MESSAGE, maybe_accepted=True)],
        attempts=[attempt(1, 75, "ambiguous", None)],
        thaws=[T + 98.9],
    )
    assert broken(late) == []
    assert broken(replace(late, thaws=[])) == ["I6"]
    assert broken(replace(late, thaws=[T + 98])) == ["I6"]


def test_a_call_beside_another_worker_s_thaw_is_that_of_its_own_attempt() -> None:
    lost_before_its_call = replace(
        twice(attempts=[attempt(1, 20, "ambiguous", None), attempt(2, 80, "accepted")], thaws=[T + 80.1]),
        calls=[call(80)],
        absences=[Absence(T + 5, T + 15)],
    )
    assert broken(lost_before_its_call) == []
    assert broken(replace(lost_before_its_call, absences=[])) == ["I12"]


def test_a_call_may_overlap_another_only_when_its_lease_ran_out() -> None:
    attempts = [attempt(1, 10, "ambiguous", 90), attempt(2, 80, "accepted")]
    frozen = twice(attempts=attempts)
    frozen.calls[0].ended_at = T + 100
    assert broken(frozen) == []
    assert broken(replace(frozen, lease_left_s=71)) == ["I8"]


def test_a_call_given_up_by_its_client_may_be_noted_as_ended_a_little_late() -> None:
    attempts = [attempt(1, 10, "ambiguous"), attempt(2, 11, "accepted")]
    message = replace(MESSAGE, claim_no=2, maybe_accepted=True)
    given_up = replace(GOOD, calls=[call(10, how="client left", lasts_s=1.05), call(11)], attempts=attempts)
    assert broken(replace(given_up, messages=[message])) == []
    given_up.calls[0].how = "answered 500"
    assert broken(replace(given_up, messages=[message])) == ["I8"]


def test_an_attempt_that_was_never_written_to_the_gateway_is_no_call() -> None:
    message = replace(MESSAGE, claim_no=2)
    attempts = [attempt(1, 9, "not_sent"), attempt(2, 10, "accepted")]
    assert broken(replace(GOOD, messages=[message], attempts=attempts)) == []
    assert broken(replace(GOOD, messages=[message], attempts=attempts[:1])) == ["I6"]


def test_an_operator_who_resolved_a_message_is_believed() -> None:
    never = replace(GOOD, calls=[call(10, accepted=False)], attempts=[attempt(1, 10, "ambiguous")])
    assert broken(never) == ["I3"]
    assert broken(replace(never, resolutions=frozenset({7}))) == []
    failed = replace(GOOD, messages=[replace(MESSAGE, status="failed")])
    assert broken(failed) == ["I4"]
    assert broken(replace(failed, resolutions=frozenset({7}))) == []


def test_a_resumed_mailing_may_call_again_from_the_moment_that_was_asked_for() -> None:
    paused = Action(kind="paused", mailing_id=1, at_answered=T + 5)
    resumed = Action(kind="resumed", mailing_id=1, at_asked=T + 9, at_answered=T + 12)
    assert broken(replace(GOOD, actions=[paused])) == ["I7"]
    assert broken(replace(GOOD, actions=[paused, resumed])) == []
    assert broken(replace(GOOD, actions=[paused, replace(resumed, at_asked=T + 11)])) == ["I7"]


def test_a_call_within_a_second_of_the_answer_to_a_cancel_is_right() -> None:
    cancelled = Action(kind="cancelled", mailing_id=1, at_answered=T + 9.5)
    assert broken(replace(GOOD, actions=[cancelled])) == []
    assert broken(replace(GOOD, actions=[replace(cancelled, at_answered=T + 8.5)])) == ["I7"]


def test_the_terms_before_an_edit_hold_until_it_has_spread() -> None:
    mailing: dict[str, Any] = {
        "starts_at": "1970-01-12T13:46:40Z",
        "local_window": None,
        "filter": {"tags": [], "operator_codes": []},
    }
    late, early = mailing | {"ends_at": "1970-01-12T14:46:40Z"}, mailing | {"ends_at": "1970-01-12T13:46:45Z"}
    edit = Action(kind="edited", mailing_id=1, at_answered=T + 9.5, details={"before": late, "after": early})
    short = replace(GOOD, mailings=[replace(MAILING, terms=replace(TERMS, ends_at=T + 5))])
    assert broken(short) == ["I7"]
    assert broken(replace(short, actions=[edit])) == []
    assert broken(replace(short, actions=[replace(edit, at_answered=T + 8)])) == ["I7"]


def changed(at_s: float, kind: str = "edited", lasts_s: float = 0.1, **changes: Any) -> Action:  # noqa: ANN401 - JSON
    """Of the client, from what it was to begin with."""
    details = {"before": api_client(), "after": api_client(**changes)}
    asked_at = T + at_s
    return Action(kind=kind, client_id=1, at_asked=asked_at, at_answered=asked_at + lasts_s, details=details)


def test_whoever_left_before_the_plan_was_complete_may_have_a_message_or_none() -> None:
    opted_out = [Client(1, replace(TRAITS, opted_out=True))]
    assert broken(NOBODY) == ["I1"]
    assert broken(replace(NOBODY, clients=opted_out)) == []
    for left in (changed(0.5, "opted_out", opted_out=True), changed(0.5, "deleted"), changed(0.5, tag="x", phone="1")):
        choosy = replace(MAILING, terms=replace(TERMS, tags=["vip"]))
        before = {**left.details, "before": api_client(tag="vip")}
        evidence = replace(NOBODY, mailings=[choosy], actions=[replace(left, details=before)])
        assert broken(evidence) == []
    afterwards = changed(60, "opted_out", opted_out=True)
    assert broken(replace(NOBODY, clients=opted_out, actions=[afterwards])) == ["I1"]
    assert broken(replace(GOOD, clients=opted_out, actions=[afterwards])) == []


def test_whoever_only_moved_or_got_a_new_phone_while_it_was_planned_has_a_message() -> None:
    for change in (changed(0.5, timezone="Asia/Tokyo"), changed(0.5, phone="79160000002")):
        assert broken(replace(NOBODY, actions=[change])) == ["I1"]


def test_whoever_came_while_it_was_planned_may_have_a_message_or_none_and_whoever_was_there_has_one() -> None:
    imported = Action(kind="imported", at_asked=T - 20, at_answered=T - 10)
    new = replace(NOBODY, clients=[Client(1, TRAITS, created_at=T - 15)], actions=[imported])
    assert broken(new) == ["I1"]
    assert broken(replace(new, actions=[replace(imported, at_answered=T + 1)])) == []


def test_only_those_selected_by_the_newest_plan_from_its_beginning_must_have_a_message() -> None:
    terms = {"starts_at": "1970-01-12T13:46:40Z", "ends_at": "1970-01-12T14:46:40Z", "local_window": None}
    narrow, wide = ({"filter": {"tags": tags, "operator_codes": []}} for tags in (["vip"], []))
    edit = Action(
        kind="edited",
        mailing_id=1,
        at_asked=T + 100,
        at_answered=T + 101,
        details={"before": terms | narrow, "after": terms | wide},
    )
    edited = replace(NOBODY, mailings=[replace(MAILING, planned_at=T + 102)])
    left_before = replace(changed(50, "opted_out", opted_out=True), client_id=1)
    assert broken(replace(edited, actions=[edit])) == ["I1"]
    assert (
        broken(replace(edited, actions=[edit, left_before], clients=[Client(1, replace(TRAITS, opted_out=True))])) == []
    )


EXPIRED = replace(
    GOOD, calls=[], attempts=[], messages=[replace(MESSAGE, status="expired", claim_no=0, finished_at=T + 500)]
)
"""Of T = 13:46:40 UTC; it ends at 14:46:40."""


def with_hours(start: str, end: str) -> list[Mailing]:
    window = LocalWindow(time.fromisoformat(start), time.fromisoformat(end))
    return [replace(MAILING, terms=replace(TERMS, window=window))]


def test_expired_is_true_only_where_the_end_or_the_hours_in_force_left_no_time() -> None:
    assert broken(EXPIRED) == ["I11"]
    assert broken(replace(EXPIRED, mailings=[replace(MAILING, terms=replace(TERMS, ends_at=T + 505))])) == []
    assert broken(replace(EXPIRED, mailings=with_hours("13:00", "14:30"))) == ["I11"]
    assert broken(replace(EXPIRED, mailings=with_hours("13:00", "13:50"))) == []
    assert broken(replace(EXPIRED, mailings=with_hours("14:40", "14:50"))) == ["I11"]
    assert broken(replace(EXPIRED, mailings=with_hours("15:00", "16:00"))) == []


def test_a_message_expires_by_the_hours_of_where_its_client_was_then() -> None:
    moved = changed(100, timezone="Asia/Tokyo")
    evidence = replace(EXPIRED, mailings=with_hours("13:00", "14:30"), actions=[moved])
    assert broken(evidence) == []
    assert broken(replace(evidence, actions=[changed(600, timezone="Asia/Tokyo")])) == ["I11"]
    assert broken(replace(evidence, actions=[changed(499.5, timezone="Asia/Tokyo")])) == []


def test_a_message_that_expired_may_have_met_a_move_asked_for_after_its_transaction_had_begun() -> None:
    """It waits for the move to commit, and `finished_at` is when it began."""
    evidence = replace(EXPIRED, mailings=with_hours("13:00", "14:30"))
    for planned_at in (T, T + 501):
        planned = [replace(mailing, planned_at=planned_at) for mailing in evidence.mailings]
        met = replace(evidence, mailings=planned, actions=[changed(502, timezone="Asia/Tokyo")])
        assert broken(met) == []
        assert broken(replace(met, actions=[changed(510, timezone="Asia/Tokyo")])) == ["I11"]


def test_what_expired_before_an_edit_is_judged_by_the_edit() -> None:
    longer = replace(MAILING, planned_at=T + 600)
    assert broken(replace(EXPIRED, mailings=[longer])) == ["I11"]
    assert broken(replace(EXPIRED, mailings=[replace(longer, terms=replace(TERMS, ends_at=T + 590))])) == []


def test_of_edits_at_the_same_time_each_may_be_the_last() -> None:
    first, second = changed(1, lasts_s=9, timezone="Asia/Tokyo"), changed(2, timezone="UTC", phone="79160000002")
    client = Client(1, TRAITS)
    versions = versions_of_client(client, [second, first])
    assert {traits.timezone for traits in at(T + 100, versions)} == {"Asia/Tokyo", "UTC"}
    third = changed(50, timezone="Asia/Dhaka")
    assert [each.timezone for each in at(T + 100, versions_of_client(client, [second, first, third]))] == ["Asia/Dhaka"]


def test_a_client_no_filter_ever_selected_has_no_message() -> None:
    choosy = replace(MAILING, terms=replace(TERMS, tags=["vip"]))
    moved = Action(
        kind="edited",
        client_id=1,
        at_answered=T + 100,
        details={"before": api_client(tag="vip"), "after": api_client()},
    )
    assert broken(replace(GOOD, mailings=[choosy])) == ["I1"]
    assert broken(replace(GOOD, mailings=[choosy], actions=[moved])) == []


def test_a_text_the_mailing_never_had_and_a_phone_of_somebody_else_are_found() -> None:
    assert broken(replace(GOOD, mailings=[replace(MAILING, texts=frozenset({"bye"}))])) == ["I9"]
    assert broken(replace(GOOD, clients=[Client(1, traits_of(api_client(phone="79160000002")))])) == ["I9"]


def test_test_sends_stand_outside_of_all_figures() -> None:
    none = Told("GET /statistics/", None, {"planned": 0, "sent": 0})
    assert broken(replace(GOOD, told=[none])) == ["I10", "I10"]
    assert broken(replace(GOOD, told=[none], mailings=[replace(MAILING, is_test=True)])) == []


def test_every_repeat_has_its_reason_and_those_of_kills_their_bound() -> None:
    dropped = twice(attempts=[attempt(1, 10, "ambiguous"), attempt(2, 80, "accepted")])
    killed = twice(attempts=[attempt(1, 70, "ambiguous", None), attempt(2, 80, "accepted")])
    thawed = twice(attempts=[LATE, attempt(2, 80, "accepted")])
    unexplained = twice(attempts=[attempt(1, 10, "accepted"), attempt(2, 80, "accepted")])
    reasons = [[*account(each, connections=0, unwritten=1).reasons] for each in (dropped, killed, thawed, unexplained)]
    assert reasons == [["the gateway had accepted it, and then: answered 200"], [KILLED], [THAWED], [UNEXPLAINED]]
    assert not account(killed, connections=0, unwritten=1).holds
    assert account(replace(killed, kills=[Kill(1, T + 11)]), connections=0, unwritten=1).holds
    assert not account(unexplained, connections=0, unwritten=1).holds


def test_an_edit_does_not_take_back_what_expired_for_a_client_that_has_opted_out_since() -> None:
    longer = replace(EXPIRED, mailings=[replace(MAILING, planned_at=T + 600)])
    assert broken(replace(longer, actions=[changed(550, "opted_out", opted_out=True)])) == []


def test_a_client_that_moves_while_an_edit_is_planned_may_have_been_planned_by_either_zone() -> None:
    hours = [replace(each, planned_at=T + 600) for each in with_hours("13:00", "14:30")]
    evidence = replace(EXPIRED, mailings=hours, actions=[changed(595, timezone="Asia/Tokyo")])
    assert broken(evidence) == []


def reported(*states: int, kept: int, **changes: Any) -> Evidence:  # noqa: ANN401 - fields of Evidence
    """Build a message that was reported in these states, each answered 200, and whose row has the state `kept`."""
    return replace(
        GOOD,
        reported=[Reported(7, state, 200) for state in states],
        receipts=[Receipt(message_id=7, mailing_id=1, state=kept)] if kept else [],
        **changes,
    )


def test_the_strongest_receipt_that_was_answered_is_kept_in_whatever_order_they_came() -> None:
    for states in ((3,), (1, 3), (3, 1), (3, 3), (2, 3), (3, 2)):
        assert broken(reported(*states, kept=3)) == []
    assert broken(reported(3, 2, kept=2)) == ["I13"]  # the weaker one won
    assert broken(reported(3, kept=0)) == ["I13"]  # lost


def test_a_receipt_that_was_not_answered_may_be_kept_or_not() -> None:
    unanswered = [Reported(7, 3, 503)]
    for kept in (0, 3):
        assert broken(replace(reported(kept=kept), reported=unanswered)) == []


def test_a_forged_receipt_is_neither_answered_nor_kept() -> None:
    forged = [Reported(7, 3, 403, is_forged=True)]
    assert broken(replace(reported(kept=0), reported=forged)) == []
    assert broken(replace(reported(kept=3), reported=forged)) == ["I13"]
    assert broken(replace(reported(kept=0), reported=[Reported(7, 3, 200, is_forged=True)])) == ["I13"]


def test_what_has_a_receipt_was_not_called_failed() -> None:
    failed = replace(
        reported(3, kept=3), calls=[call(10, accepted=False)], messages=[replace(MESSAGE, status="failed")]
    )
    assert "I13" in broken(replace(failed, attempts=[attempt(1, 10, "refused")]))


def test_the_delivery_that_is_told_equals_the_rows() -> None:
    true = {"delivered": 1, "undelivered": 0, "awaited": 0}
    assert broken(reported(3, kept=3, told=[Told("GET /statistics/", 1, true)])) == []
    for wrong in ({"delivered": 2}, {"undelivered": 1}, {"awaited": 1}):
        assert broken(reported(3, kept=3, told=[Told("GET /statistics/", 1, true | wrong)])) == ["I13"]
