"""Send a test: the mailing's current text to one client, at once, the same way as every other message.

A test is a mailing of its own with one message; `test_of_mailing_id` is the tested one. Lists, counts and reports
leave it out.
"""

from datetime import timedelta

from sqlalchemy.ext.asyncio import AsyncSession

from mailing.clients.models import Client
from mailing.clients.repository import ClientRepository
from mailing.database.clock import database_now
from mailing.errors import Conflict, FieldError, Invalid
from mailing.job_queue.enqueue import defer
from mailing.mailings.models import Mailing
from mailing.mailings.orm_repository import MailingRepository
from mailing.mailings.states import MailingStatus
from mailing.messages.planning import add_message
from mailing.restore.repository import is_restored

DURATION = timedelta(minutes=10)
PRIORITY = 1  # before the send jobs of mailings: a person waits for it


async def find_recipient(session: AsyncSession, phone: str) -> Client:
    """Find the client with this phone. A test goes to clients only, like every message."""
    client = await ClientRepository(session).get_one_or_none(Client.phone == phone)
    if client is None:
        raise Invalid(FieldError("phone", "belongs to no client; create one with POST /mailing/api/clients/ first"))
    if client.opted_out:
        raise Conflict("The client with this phone has opted out and gets no messages; use another client's phone.")
    return client


async def send_test(session: AsyncSession, mailing: Mailing, *, client_id: int, by: str) -> int:
    """Create the test and return the id of its message. The caller's name stands in the test's release."""
    if await is_restored(session):
        raise Conflict(
            "The database was restored from a backup; run `mailing resume-after-restore`, then send the test."
        )
    if not mailing.text:
        raise Conflict("The text of this mailing was deleted after MAILING_RETENTION_DAYS; create a new one.")
    now = await database_now(session)
    test = await MailingRepository(session=session).add(
        Mailing(
            text=mailing.text,
            starts_at=now,
            ends_at=now + DURATION,
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
