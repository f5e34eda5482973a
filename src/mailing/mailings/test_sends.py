"""A test: the mailing's present text to one client, at once, by the same way as every other message.

It is a mailing of its own with one message, `test_of_mailing_id` the tested one, and left out wherever mailings are
listed,
counted or reported.
"""

from datetime import timedelta

from sqlalchemy.ext.asyncio import AsyncSession

from mailing.clients.models import Client
from mailing.clients.repository import ClientRepository
from mailing.errors import Conflict, FieldError, Invalid
from mailing.job_queue.enqueue import defer
from mailing.mailings.models import Mailing
from mailing.mailings.repository import MailingRepository, database_now
from mailing.mailings.states import MailingStatus
from mailing.messages.planning import add_message
from mailing.restore.repository import is_restored

LASTS = timedelta(minutes=10)
PRIORITY = 1  # before the send jobs of mailings: somebody waits for it


async def recipient(session: AsyncSession, phone: str) -> Client:
    """The client that has this phone; nobody else is written to, in a test either."""
    client = await ClientRepository(session).get_one_or_none(Client.phone == phone)
    if client is None:
        remedy = "belongs to no client; create one with POST /mailing/api/clients/ first"
        raise Invalid(FieldError("phone", remedy))
    if client.opted_out:
        raise Conflict("The client with this phone has opted out and gets nothing; take another one.")
    return client


async def send_test(session: AsyncSession, mailing: Mailing, *, client_id: int, by: str) -> int:
    """Returns the id of the message. Whoever sends a test releases that one."""
    if await is_restored(session):
        raise Conflict("The database was restored from a backup; run mailing resume-after-restore before a test.")
    if not mailing.text:
        raise Conflict("The text of this mailing was blanked after MAILING_RETENTION_DAYS; create a new one.")
    now = await database_now(session)
    test = await MailingRepository(session=session).add(
        Mailing(
            text=mailing.text,
            starts_at=now,
            ends_at=now + LASTS,
            tags=[],
            operator_codes=[],
            status=MailingStatus.running,
            planned_revision=1,
            audience_max_client_id=0,
            started_at=now,
            content_revision=1,
            released_revision=1,
            released_at=now,
            released_by=by,
            test_of_mailing_id=mailing.id,
        )
    )
    message_id = await add_message(session, test.id, client_id, closes_at=test.ends_at)
    await defer(session, "send_mailing", priority=PRIORITY, mailing_id=test.id, lane=0)
    await defer(session, "settle_mailing", at=test.ends_at, mailing_id=test.id)
    return message_id
