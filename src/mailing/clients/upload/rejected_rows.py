"""The rows that an import left out, as CSV: `line,field,message,row`."""

from collections.abc import AsyncIterator

from mailing.clients.upload.repository import refusals_of
from mailing.csv_writer import csv_of
from mailing.database.engine import Sessions, transaction

PAGE = 2000


async def verdict_of(sessions: Sessions, upload_id: int) -> AsyncIterator[bytes]:
    """In the order of lines, each page in a transaction of its own; nothing in it is a formula."""
    text, last = "line,field,message,row\r\n", (0, "")
    while True:
        async with transaction(sessions) as session:
            refusals = await refusals_of(session, upload_id, after=last, count=PAGE)
        yield (text + csv_of(refusals)).encode()
        if len(refusals) < PAGE:
            return
        text, last = "", (refusals[-1].line, refusals[-1].field)
