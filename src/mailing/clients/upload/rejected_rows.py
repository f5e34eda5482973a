"""The rows that an import left out, as CSV: `line,field,message,row`."""

from collections.abc import AsyncIterator

from mailing.clients.upload.repository import rejected_fields
from mailing.csv_writer import csv_of
from mailing.database.engine import Sessions, transaction

PAGE_SIZE = 2000


async def rejected_rows_csv(sessions: Sessions, upload_id: int) -> AsyncIterator[bytes]:
    """In the order of lines, each page in a transaction of its own; nothing in it is a formula."""
    text, last = "line,field,message,row\r\n", (0, "")
    while True:
        async with transaction(sessions) as session:
            refusals = await rejected_fields(session, upload_id, after=last, count=PAGE_SIZE)
        yield (text + csv_of(refusals)).encode()
        if len(refusals) < PAGE_SIZE:
            return
        text, last = "", (refusals[-1].line, refusals[-1].field)
