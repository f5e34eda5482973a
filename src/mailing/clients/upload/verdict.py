"""The rows that an import left out, as CSV: `line,field,message,row`."""

import csv
import io
from collections.abc import AsyncIterator, Sequence

from mailing.clients.rows import Refusal
from mailing.clients.tag import neutralised
from mailing.clients.upload.repository import refusals_of
from mailing.db import Sessions, transaction

PAGE = 2000


async def verdict_of(sessions: Sessions, upload_id: int) -> AsyncIterator[bytes]:
    """In the order of lines, each page in a transaction of its own; a row is defused as an exported tag is."""
    text, last = "line,field,message,row\r\n", (0, "")
    while True:
        async with transaction(sessions) as session:
            refusals = await refusals_of(session, upload_id, after=last, count=PAGE)
        yield (text + _csv(refusals)).encode()
        if len(refusals) < PAGE:
            return
        text, last = "", (refusals[-1].line, refusals[-1].field)


def _csv(refusals: Sequence[Refusal]) -> str:
    file = io.StringIO()
    csv.writer(file).writerows((line, field, message, neutralised(row)) for line, field, message, row in refusals)
    return file.getvalue()
