"""Write the day's mailings as CSV for a spreadsheet, one row each. Columns are named as in the API."""

from collections.abc import Iterable

from mailing.csv_writer import BYTE_ORDER_MARK, csv_of
from mailing.mailings.counts import Counts
from mailing.reports.figures import DayCounts, MailingFigures
from mailing.reports.formatting import by_status, one_line

COLUMNS = (
    *("mailing_id", "text", "status"),
    *(f"{name}_that_day" for name in DayCounts.__struct_fields__),
    *Counts.__struct_fields__,
)


def mailings_csv(mailings: Iterable[MailingFigures]) -> str:
    return BYTE_ORDER_MARK + csv_of([COLUMNS, *(_row(mailing) for mailing in mailings)])


def _row(mailing: MailingFigures) -> list[object]:
    counts = (*by_status(mailing.ended).values(), *by_status(mailing.totals).values())
    return [mailing.id, one_line(mailing.text), mailing.status, *counts]
