"""`/mailing/api/statistics`: totals, and one mailing with its messages."""

from typing import Annotated

from litestar import Controller, get
from litestar.params import QueryParameter

from mailing.database.engine import read_snapshot
from mailing.mailings.counts import Counts, totals
from mailing.messages.queries import messages_of
from mailing.messages.schemas import Delivery
from mailing.messages.states import MessageStatus
from mailing.statistics import repository
from mailing.statistics.schemas import MailingStatistics, Statistics
from mailing.web.pagination import Cursor, Limit, decode_cursor, page
from mailing.web.parameters import Id, Session
from mailing.web.state import AppState

StatusFilter = Annotated[
    MessageStatus | None, QueryParameter(description=f"a status of a message: {', '.join(MessageStatus)}")
]

DeliveryFilter = Annotated[Delivery | None, QueryParameter(description=f"what the receipts say: {', '.join(Delivery)}")]


class StatisticsController(Controller):
    path = "/statistics"
    tags = ["statistics"]  # noqa: RUF012 - Litestar's way to declare it

    @get("/", summary="Totals and a line for each mailing")
    async def statistics(
        self, session: Session, state: AppState, limit: Limit = 50, cursor: Cursor = None
    ) -> Statistics:
        await read_snapshot(session)
        found = await totals(session)
        listed = await repository.mailing_lines(
            session, cursor=decode_cursor(cursor), limit=limit, receipts=state.receipts_expected
        )
        lines = page(listed, limit, "mailing_id")
        return Statistics(found.mailings, found.messages, lines.items, lines.next_cursor)

    @get("/{mailing_id:int}", summary="One mailing's counts and messages")
    async def mailing_statistics(  # noqa: PLR0913, PLR0917 - one for each query parameter
        self,
        session: Session,
        state: AppState,
        mailing_id: Id,
        status: StatusFilter = None,
        delivery: DeliveryFilter = None,
        limit: Limit = 50,
        cursor: Cursor = None,
    ) -> MailingStatistics:
        """Read one mailing's counts and messages. Counts are exact: they change in the messages' transactions.

        `delivery` lists messages by the provider's receipts.
        """
        await read_snapshot(session)
        line = await repository.mailing_line(session, mailing_id, receipts=state.receipts_expected)
        after = decode_cursor(cursor)
        found = await messages_of(session, mailing_id, cursor=after, limit=limit, status=status, delivery=delivery)
        counts = Counts(**{name: getattr(line, name) for name in Counts.__struct_fields__})
        return MailingStatistics(mailing_id, line.status, line.launched, counts, line.delivery, page(found, limit))
