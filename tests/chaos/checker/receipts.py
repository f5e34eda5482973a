"""I13: the strongest receipt is kept; none that was forged is; and what has one was never called unsent."""

from collections.abc import Iterator

from chaos.checker.case import Case
from chaos.checker.facts import Violation

STORED = 200


def receipts_are_true(case: Case) -> Iterator[Violation]:
    yield from _the_strongest_is_kept(case)
    yield from _unsent_has_none(case)


def _the_strongest_is_kept(case: Case) -> Iterator[Violation]:
    """A forged report was never made. One that was not answered 200 may have been stored all the same."""
    kept = {receipt.message_id: receipt.state for receipt in case.evidence.receipts}
    sure: dict[int, int] = {}
    possible: dict[int, int] = {}
    for each in case.evidence.reported:
        if each.is_forged:
            if each.answer == STORED:
                yield Violation("I13", each.message_id, "has a forged receipt that was answered 200")
            continue
        possible[each.message_id] = max(each.state, possible.get(each.message_id, 0))
        if each.answer == STORED:
            sure[each.message_id] = max(each.state, sure.get(each.message_id, 0))
    for message_id in sorted(kept.keys() | sure.keys()):
        state = kept.get(message_id, 0)
        if state < sure.get(message_id, 0):
            yield Violation("I13", message_id, f"has the receipt {state}, and {sure[message_id]} was answered 200")
        if state > possible.get(message_id, 0):
            yield Violation("I13", message_id, f"has the receipt {state}, which nobody has reported")


def _unsent_has_none(case: Case) -> Iterator[Violation]:
    statuses = {message.id: message.status for message in case.evidence.messages}
    for receipt in case.evidence.receipts:
        status = statuses.get(receipt.message_id)
        if status not in {"sent", "unknown"}:
            yield Violation("I13", receipt.message_id, f"is {status}, and there is a receipt for it")
