"""Read and edit mailings through the ORM, for callers of the API and the admin page."""

from collections.abc import Sequence

from advanced_alchemy.repository import SQLAlchemyAsyncRepository
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.errors import NotFound
from mailing.mailings.models import Mailing
from mailing.mailings.states import MailingStatus

# FOR NO KEY UPDATE. The check of a foreign key would wait for FOR UPDATE, and PostgreSQL makes one when a transaction
# updates a mailing's counters or low watermark twice: it would hold the counters, and wait for an act that wants them.
_FOR_CHANGE = {"key_share": True}


class MailingRepository(SQLAlchemyAsyncRepository[Mailing]):
    model_type = Mailing

    def __init__(self, session: AsyncSession) -> None:
        """Let SQLAlchemy's errors through unwrapped: `web` must distinguish an outage from a bug."""
        super().__init__(session=session, wrap_exceptions=False)

    async def get_visible(self, mailing_id: int) -> Mailing:
        """Return a mailing that callers can see: not deleted, not a test send. NotFound otherwise."""
        return _found(await self.get_one_or_none(id=mailing_id, deleted_at=None, test_of_mailing_id=None), mailing_id)

    async def get_for_update(self, mailing_id: int) -> Mailing:
        """Lock a mailing for a change: concurrent edits, starts and finishes wait for each other."""
        found = await self.get_one_or_none(
            id=mailing_id, deleted_at=None, test_of_mailing_id=None, with_for_update=_FOR_CHANGE
        )
        return _found(found, mailing_id)

    async def get_for_update_by_message(self, message_id: int) -> Mailing:
        """Lock the mailing of a message, as `get_for_update`; test sends are included."""
        mailing_id = await self.session.scalar(_MAILING_OF_MESSAGE, {"id": message_id})
        mailing = await self.get_one_or_none(id=mailing_id, deleted_at=None, with_for_update=_FOR_CHANGE)
        if mailing is None:
            raise NotFound("There is no message %(id)s.", id=message_id)
        return mailing

    async def list_after(self, cursor: int, *, limit: int, status: MailingStatus | None = None) -> Sequence[Mailing]:
        """List up to `limit` mailings and one more, by id. Index: the primary key."""
        query = select(Mailing).where(
            Mailing.id > cursor, Mailing.deleted_at.is_(None), Mailing.test_of_mailing_id.is_(None)
        )
        if status is not None:
            query = query.where(Mailing.status == status)
        return (await self.session.scalars(query.order_by(Mailing.id).limit(limit + 1))).all()


_MAILING_OF_MESSAGE = text("SELECT mailing_id FROM message WHERE id = :id")


def _found(mailing: Mailing | None, mailing_id: int) -> Mailing:
    if mailing is None:
        raise NotFound("There is no mailing %(id)s.", id=mailing_id)
    return mailing
