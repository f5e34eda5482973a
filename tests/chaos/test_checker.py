"""What the checker excuses and what it doesn't, fact by fact; and how it reads a ledger."""

from datetime import time
from pathlib import Path
from typing import Any

import pytest

from chaos.checker import check
from chaos.duplicates import KILLED, duplicates
from chaos.evidence import calls_of
from chaos.facts import Action, Attempt, Call, Client, Counters, Evidence, Kill, Kind, Mailing, Message, Terms
from chaos.pairing import paired
from mailing.mailings.window import LocalWindow

NOON = 1_800_014_400.0  # 2027-01-15 12:00 UTC


def call(at: float, *, accepted: bool = True, lasts_s: float | None = 0.1, **other: Any) -> Call:  # noqa: ANN401
    ended = {} if lasts_s is None else {"ended_at": NOON + at + lasts_s, "how": "answered 200"}
    facts = {"id": 1, "phone": "79160000001", "text": "hello", "accepted_at": NOON + at if accepted else None}
    return Call(began_at=NOON + at, **{**ended, **facts, **other})


def attempt(number: int, at: float, outcome: str = "accepted", *, lasts_s: float | None = 0.1) -> Attempt:
    return Attempt(message_id=1, number=number, started_at=NOON + at, outcome=outcome, duration_s=lasts_s)


def action(kind: Kind, at: float, **other: Any) -> Action:  # noqa: ANN401 - fields of Action
    return Action(kind=kind, at_answered=NOON + at, **other)


def evidence(
    calls: list[Call],
    attempts: list[Attempt],
    *,
    status: str = "sent",
    ambiguous: bool = False,
    **other: Any,  # noqa: ANN401
) -> Evidence:
    """One client, one mailing from a minute before noon until ten minutes after it, one message."""
    message = Message(id=1, mailing_id=1, client_id=1, status=status, attempt_no=len(attempts), ambiguous=ambiguous)
    terms = [Terms(starts_at=NOON - 60, ends_at=NOON + 600)]
    mailing = Mailing(
        id=1,
        status="finished",
        planned=True,
        audience_upto=1,
        terms=other.pop("terms", terms),
        texts=frozenset({"hello", "other words"}),
    )
    client = Client(id=1, phone="79160000001", operator_code="916", timezone="UTC")
    facts: dict[str, Any] = {"messages": [message], "mailings": [mailing], "clients": [client]} | other
    return Evidence(taken_at=NOON + 700, calls=calls, attempts=attempts, **facts)


def broken(found: Evidence) -> list[str]:
    return [violation.invariant for violation in check(found)]


def test_one_call_accepted_and_recorded_breaks_nothing() -> None:
    assert broken(evidence([call(0)], [attempt(1, 0)])) == []


def test_a_call_for_a_message_that_is_not_there_had_no_intent() -> None:
    assert broken(evidence([call(0), call(1, id=2)], [attempt(1, 0)])) == ["I6"]


def test_a_call_before_its_claim_had_no_intent() -> None:
    assert broken(evidence([call(0)], [attempt(1, 61)])) == ["I6"]


def test_a_second_acceptance_needs_an_ambiguous_attempt_before_it() -> None:
    calls = [call(0), call(5)]
    assert broken(evidence(calls, [attempt(1, 0, "ambiguous"), attempt(2, 5)], ambiguous=True)) == []
    assert broken(evidence(calls, [attempt(1, 0, "throttled"), attempt(2, 5)])) == ["I5"]


def test_calls_overlap_only_after_a_lease_ran_out() -> None:
    early, late = [call(0, lasts_s=90), call(5)], [call(0, lasts_s=90), call(62)]
    swept = [attempt(1, 61, "ambiguous", lasts_s=None), attempt(2, 62)]
    assert broken(evidence(late, swept, ambiguous=True)) == []
    assert broken(evidence(early, [attempt(1, 0, "ambiguous"), attempt(2, 5)], ambiguous=True)) == ["I8"]


def test_a_worker_that_thaws_may_put_its_own_account_in_place_of_the_sweeps() -> None:
    calls = [call(0, lasts_s=90), call(62)]
    assert broken(evidence(calls, [attempt(1, 0, lasts_s=90), attempt(2, 62)], ambiguous=True)) == []
    assert broken(evidence(calls, [attempt(1, 0, lasts_s=90), attempt(2, 62)])) == ["I5", "I8"]


def test_words_may_change_until_they_may_have_arrived_or_after_an_operator_said_that_they_did_not() -> None:
    calls = [call(0, accepted=False), call(5, text="other words")]
    attempts = [attempt(1, 0, "ambiguous"), attempt(2, 5)]
    said = action(Kind.resolved, 2, message_id=1, details={"as": "failed"})
    assert broken(evidence(calls, attempts)) == ["I9"]
    assert broken(evidence(calls, [attempt(1, 0, "throttled"), attempt(2, 5)])) == []
    assert broken(evidence(calls, attempts, actions=[said])) == []


def test_a_text_or_a_phone_from_elsewhere_is_found() -> None:
    assert broken(evidence([call(0, text="hullo")], [attempt(1, 0)])) == ["I9"]
    assert broken(evidence([call(0, phone="79160000002")], [attempt(1, 0)])) == ["I9"]


def test_sent_without_an_acceptance_needs_an_operators_word() -> None:
    calls, attempts = [call(0, accepted=False)], [attempt(1, 0, "ambiguous")]
    said = action(Kind.resolved, 9, message_id=1, details={"as": "sent"})
    assert broken(evidence(calls, attempts)) == ["I3"]
    assert broken(evidence(calls, attempts, actions=[said])) == []


@pytest.mark.parametrize("whom", [{"mailing_id": 1}, {"client_id": 1}, {}], ids=["mailing", "client", "all"])
def test_a_call_may_follow_what_forbids_it_for_a_second_and_again_from_the_lifting_on(whom: dict[str, int]) -> None:
    kinds = {"mailing_id": (Kind.paused, Kind.resumed), "client_id": (Kind.opted_out, Kind.opted_in)}
    forbids, lifts = kinds.get(next(iter(whom), ""), (Kind.stopped, Kind.started))
    actions = [action(forbids, 0, **whom), action(lifts, 10, asked_at=NOON + 9, **whom)]
    for at, expected in [(-1, []), (0.9, []), (1.1, ["I7"]), (8.9, ["I7"]), (9.1, [])]:
        assert broken(evidence([call(at)], [attempt(1, at)], actions=actions)) == expected


def test_nothing_may_begin_at_the_end_and_all_may_just_before_it() -> None:
    assert broken(evidence([call(599.999)], [attempt(1, 599.999)])) == []
    assert broken(evidence([call(600)], [attempt(1, 600)])) == ["I7"]


def test_an_edit_may_take_a_second_and_its_new_terms_hold_from_its_asking_on() -> None:
    """The window shuts the old terms out at once; the edit opens the afternoon."""
    bounds: dict[str, Any] = {"starts_at": NOON - 60, "ends_at": NOON + 600}
    morning = Terms(**bounds, window=LocalWindow(time(0), time(12)))
    afternoon = Terms(**bounds, window=LocalWindow(time(12), time(0)), asked_at=NOON + 2, answered_at=NOON + 3)
    for at, expected in [(-1, []), (1, ["I7"]), (2.5, []), (9, [])]:
        assert broken(evidence([call(at)], [attempt(1, at)], terms=[morning, afternoon])) == expected


def test_a_client_without_a_message_a_second_message_and_a_drifted_counter_are_found() -> None:
    whole = evidence([call(0)], [attempt(1, 0)])
    twin = Message(id=2, mailing_id=1, client_id=1, status="expired", attempt_no=0, ambiguous=False)
    counts = {"planned": 2, "sent": 1, "expired": 1}
    whole.messages.append(twin)
    whole.clients.append(Client(id=2, phone="79160000002", operator_code="916", timezone="UTC"))
    whole.counters = [Counters(source="GET /statistics/", counts=counts), Counters(source="x", counts={"sent": 2})]
    assert broken(whole) == ["I1", "I10"]  # client 2 came after the audience was taken
    whole.mailings[0].audience_upto = 2
    assert broken(whole) == ["I1", "I1", "I10"]


def test_an_attempt_that_made_no_call_is_left_out_by_its_time() -> None:
    attempts = [attempt(1, 0, "ambiguous"), attempt(2, 70, "ambiguous", lasts_s=None), attempt(3, 80)]
    assert paired([call(0), call(80)], attempts) == [attempts[0], attempts[2]]
    assert paired([call(0), call(80)], attempts[2:]) == [None, attempts[2]]
    assert paired([call(0)], [attempt(1, 0, "not_sent")]) == [None]


def test_each_repeat_has_its_reason_and_kills_a_bound() -> None:
    attempts = [attempt(1, 61, "ambiguous", lasts_s=None), attempt(2, 62, "ambiguous"), attempt(3, 63)]
    calls = [call(0), call(62, how="dropped"), call(63)]
    found = evidence(calls, attempts, ambiguous=True, kills=[Kill(7, NOON + 1)], connections=32, unwritten=100)
    accounted = duplicates(found)
    assert accounted.by_reason == {KILLED: 1, "the gateway dropped after accepting": 1}
    assert (accounted.bound, accounted.within_bound) == (132, True)


BEGAN = '{"n":1,"event":"began","at":5.5,"id":7,"phone":79160000001,"text":"hello"}\n'


def test_a_ledger_may_be_cut_in_its_last_line_and_its_numbers_begin_anew_with_the_gateway(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    accepted = '{"n":1,"event":"accepted","at":6}\n'
    ledger.write_text(BEGAN + accepted + BEGAN + '{"n":1,"event":"ended","at":7,"how":"dropped"}\n{"n":2,"ev')
    lost, dropped = calls_of(ledger)
    assert (lost.id, lost.phone, lost.accepted_at, lost.how) == (7, "79160000001", 6, None)
    assert (dropped.accepted_at, dropped.ended_at, dropped.how) == (None, 7, "dropped")


def test_a_ledger_with_an_unreadable_line_is_no_evidence(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    ledger.write_text('{"n":1,"ev' + BEGAN)
    with pytest.raises(ValueError, match="line 1 of the ledger ledger can't be read"):
        calls_of(ledger)
