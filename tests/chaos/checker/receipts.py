"""I13: the strongest receipt counts, once; none that was forged does; and what has one was never called unsent."""

from collections import Counter
from collections.abc import Iterator

from chaos.checker.case import Case
from chaos.checker.facts import Violation

ACCEPTED, UNDELIVERED, DELIVERED = 1, 2, 3
STORED = 200


def receipts_are_true(case: Case) -> Iterator[Violation]:
    yield from _the_strongest_is_kept(case)
    yield from _unsent_has_none(case)
    yield from _counted(case)


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


def _counted(case: Case) -> Iterator[Violation]:
    if not case.evidence.delivery:
        return
    tests = {mailing.id for mailing in case.evidence.mailings if mailing.is_test}
    rows = Counter((receipt.mailing_id, receipt.state) for receipt in case.evidence.receipts)
    sent = Counter(message.mailing_id for message in case.evidence.messages if message.status == "sent")
    for told in case.evidence.delivery:
        if told.mailing_id in tests:
            continue
        delivered, undelivered = rows[told.mailing_id, DELIVERED], rows[told.mailing_id, UNDELIVERED]
        awaited = max(0, sent[told.mailing_id] - delivered - undelivered)
        if (told.delivered, told.undelivered, told.awaited) != (delivered, undelivered, awaited):
            found = f"{told.delivered} delivered, {told.undelivered} not, {told.awaited} awaited"
            rows_say = f"{delivered}, {undelivered}, {awaited}"
            yield Violation("I13", None, f"{told.source} says {found}, and the rows {rows_say}")
