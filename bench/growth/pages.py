"""The reads of people and programs, by name, each as a call of the product's own function."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime

from sqlalchemy.ext.asyncio import AsyncSession

from mailing.clients.search import FIRST, Search, list_clients, search_clients
from mailing.database.read_pool import ReadPool
from mailing.events.history import HistoryCursor, history
from mailing.mailings import counts
from mailing.mailings.orm_repository import MailingRepository
from mailing.mailings.repository import find_pending_work
from mailing.messages.leases import find_expired
from mailing.messages.queries import get_message, messages_of, messages_of_client
from mailing.messages.states import MessageStatus
from mailing.sending.sweep import MAX_MAILINGS
from mailing.statistics import repository as statistics
from mailing.statistics.latency import recent_calls

LAST = 2**62
LIMIT = 50

Reading = Callable[[AsyncSession], Awaitable[object]]


def readings(mailing_id: int, reads: ReadPool, *, deep: int) -> Mapping[str, Reading]:
    """Return reads of pages of 50. `deep` is a message and a client far behind the first page."""
    late = HistoryCursor(datetime.now(UTC), 0, 0, 0)
    return {
        "statistics of a mailing": lambda s: statistics.mailing_line(s, mailing_id),
        "statistics of all": counts.totals,
        "a message's story": lambda s: get_message(s, deep),
        "messages, first page": lambda s: messages_of(s, mailing_id, cursor=0, limit=LIMIT, status=None),
        "messages, deep page": lambda s: messages_of(s, mailing_id, cursor=deep, limit=LIMIT, status=None),
        "messages sent, deep page": lambda s: messages_of(
            s, mailing_id, cursor=deep, limit=LIMIT, status=MessageStatus.sent
        ),
        "messages of a client": lambda s: messages_of_client(s, deep, before=LAST, limit=LIMIT),
        "clients, first page": lambda _: list_clients(reads, Search(), after=0, limit=LIMIT),
        "clients of a tag, deep page": lambda _: list_clients(reads, Search(tag="tag7"), after=deep, limit=LIMIT),
        "clients by end of phone": lambda s: search_clients(s, Search(ends="77"), place=FIRST, limit=LIMIT),
        "mailings": lambda s: MailingRepository(session=s).list_after(0, limit=LIMIT),
        "events of a mailing, first page": lambda s: history(
            s, "mailing_id", mailing_id, after=HistoryCursor(), limit=LIMIT
        ),
        "events of a mailing, last page": lambda s: history(s, "mailing_id", mailing_id, after=late, limit=LIMIT),
        "events of a client": lambda s: history(s, "client_id", deep, after=HistoryCursor(), limit=LIMIT),
        "the newest calls": recent_calls,
        "the sweep's look": lambda s: find_pending_work(s, after=0, count=MAX_MAILINGS),
        "the sweep's lost leases": find_expired,
    }
