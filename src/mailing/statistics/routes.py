"""`/mailing/api/statistics`: totals, and one mailing with its messages."""

from typing import Annotated

from litestar import Controller, get
from litestar.params import QueryParameter

from mailing.mailings.counts import Counts, totals
from mailing.messages.queries import messages_of
from mailing.messages.states import MessageStatus
from mailing.statistics import repository
from mailing.statistics.schemas import MailingStatistics, Statistics
from mailing.web.pagination import Cursor, Limit, decode_cursor, page
from mailing.web.parameters import Id, Session, documented

StatusFilter = Annotated[
    MessageStatus | None, QueryParameter(description=f"a status of a message: {', '.join(MessageStatus)}")
]


class StatisticsController(Controller):
    path = "/statistics"
    tags = ["statistics"]  # noqa: RUF012 - Litestar's way to declare it

    @get("/", summary="Totals and a line for each mailing", operation_id="statistics", responses=documented(400))
    async def statistics(self, session: Session, limit: Limit = 50, cursor: Cursor = None) -> Statistics:
        found = await totals(session)
        lines = page(
            await repository.mailing_lines(session, cursor=decode_cursor(cursor), limit=limit), limit, "mailing_id"
        )
        return Statistics(found.mailings, found.messages, lines.items, lines.next_cursor)

    @get(
        "/{mailing_id:int}",
        summary="One mailing's counts and messages",
        operation_id="mailing_statistics",
        responses=documented(400, 404),
    )
    async def mailing_statistics(
        self,
        session: Session,
        mailing_id: Id,
        status: StatusFilter = None,
        limit: Limit = 50,
        cursor: Cursor = None,
    ) -> MailingStatistics:
        """Read one mailing's counts and messages. Counts are exact: they change in the messages' transactions."""
        line = await repository.mailing_line(session, mailing_id)
        found = await messages_of(session, mailing_id, cursor=decode_cursor(cursor), limit=limit, status=status)
        counts = Counts(**{name: getattr(line, name) for name in Counts.__struct_fields__})
        return MailingStatistics(mailing_id, line.status, line.launched, counts, page(found, limit))
