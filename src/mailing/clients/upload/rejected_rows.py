"""Export the rows that an import rejected, as CSV: `line,field,message,row`."""

from collections.abc import AsyncIterator

from mailing.clients.upload.repository import rejected_fields
from mailing.csv_writer import BYTE_ORDER_MARK, csv_of
from mailing.database.engine import Sessions, in_transaction

PAGE_SIZE = 2000


async def rejected_rows_csv(sessions: Sessions, upload_id: int, *, language: str) -> AsyncIterator[bytes]:
    """Yield rejected fields by line, each page in a transaction of its own; formulas are escaped."""
    text, last = BYTE_ORDER_MARK + "line,field,message,row\r\n", (0, "")
    while True:
        fields = await in_transaction(sessions, rejected_fields, upload_id, after=last, count=PAGE_SIZE)
        rows = ((each.line, each.field, each.refusal.words(language), each.row) for each in fields)
        yield (text + csv_of(rows)).encode()
        if len(fields) < PAGE_SIZE:
            return
        text, last = "", (fields[-1].line, fields[-1].field)
