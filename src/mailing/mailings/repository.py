"""Mailings as rows: reading and editing through the ORM, the steps of a mailing's life as guarded statements."""

from collections.abc import Sequence
from datetime import datetime

import msgspec
from advanced_alchemy.repository import SQLAlchemyAsyncRepository
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from mailing.errors import NotFound
from mailing.mailings.models import Mailing
from mailing.mailings.rules import Status


class MailingRepository(SQLAlchemyAsyncRepository[Mailing]):
    model_type = Mailing

    async def existing(self, mailing_id: int) -> Mailing:
        return _found(await self.get_one_or_none(id=mailing_id, deleted_at=None), mailing_id)

    async def locked(self, mailing_id: int) -> Mailing:
        """For a change: two edits at once come one after the other, and a launch or finish waits."""
        return _found(await self.get_one_or_none(id=mailing_id, deleted_at=None, with_for_update=True), mailing_id)

    async def after(self, cursor: int, *, limit: int, status: Status | None = None) -> Sequence[Mailing]:
        """One row more than `limit`, if there is one. Index: the primary key."""
        query = select(Mailing).where(Mailing.id > cursor, Mailing.deleted_at.is_(None))
        if status is not None:
            query = query.where(Mailing.status == status)
        return (await self.session.scalars(query.order_by(Mailing.id).limit(limit + 1))).all()


async def database_now(session: AsyncSession) -> datetime:
    """The clock that decides what is due: the same for every process on every machine."""
    return (await session.execute(select(func.now()))).scalar_one()


# scheduled → running when the start has come. The audience ends with the newest client of this moment.
_LAUNCH = text("""
    UPDATE mailing SET status = 'running', launched_at = now()
    WHERE id = :id AND status = 'scheduled' AND starts_at <= now()
""")
_TAKE_AUDIENCE = text("""
    UPDATE mailing SET audience_upto = (SELECT coalesce(max(id), 0) FROM client)
    WHERE id = :id AND audience_upto IS NULL
""")


async def launch(session: AsyncSession, mailing_id: int) -> None:
    await session.execute(_LAUNCH, {"id": mailing_id})
    await session.execute(_TAKE_AUDIENCE, {"id": mailing_id})


# The plan of `revision` is complete; a newer edit leaves it behind.
_PLANNED = text("UPDATE mailing SET planned_revision = greatest(planned_revision, :revision) WHERE id = :id")


async def mark_planned(session: AsyncSession, mailing_id: int, revision: int) -> None:
    await session.execute(_PLANNED, {"id": mailing_id, "revision": revision})


# running | paused → finished when every planned message is final.
_FINISH = text("""
    UPDATE mailing g SET status = 'finished', finished_at = now()
    FROM mailing_counts c
    WHERE g.id = :id AND c.mailing_id = g.id AND g.status IN ('running', 'paused')
      AND g.planned_revision = g.revision AND c.pending = 0 AND c.sending = 0
    RETURNING g.id
""")


async def finish(session: AsyncSession, mailing_id: int) -> bool:
    return (await session.execute(_FINISH, {"id": mailing_id})).first() is not None


class Needs(msgspec.Struct, frozen=True):
    """What the sweep finds undone about one mailing."""

    mailing_id: int
    plan: bool
    send: bool
    openings: bool
    """Pending messages whose opening has passed, or that no end will ever reach."""


# Each EXISTS is one probe of message_due or message_closing. A closed mailing with pending messages is rare:
# a call came back while it was being cancelled.
_NEEDS = text("""
    SELECT g.id,
        g.status = 'scheduled' AND g.starts_at <= now()
            OR g.status IN ('running', 'paused') AND g.planned_revision < g.revision,
        g.status = 'running' AND now() < g.ends_at AND EXISTS (
            SELECT FROM message m WHERE m.mailing_id = g.id AND m.status = 'pending'
            AND m.due_at <= now() AND m.closes_at > now()),
        now() >= g.ends_at AND g.status <> 'scheduled' OR EXISTS (
            SELECT FROM message m WHERE m.mailing_id = g.id AND m.status = 'pending' AND m.closes_at <= now())
            OR c.pending + c.sending = 0 AND g.planned_revision = g.revision
    FROM mailing g JOIN mailing_counts c ON c.mailing_id = g.id
    WHERE g.status IN ('scheduled', 'running', 'paused')
    UNION ALL
    SELECT g.id, false, false, true FROM mailing g JOIN mailing_counts c ON c.mailing_id = g.id
    WHERE g.status IN ('finished', 'cancelled') AND c.pending > 0
""")


async def needs(session: AsyncSession) -> list[Needs]:
    return [Needs(*row) for row in await session.execute(_NEEDS)]


_TEXTS = text("SELECT revision, text FROM mailing_text WHERE mailing_id = :id")


async def texts(session: AsyncSession, mailing_id: int) -> dict[int, str]:
    """Every wording the mailing ever had, by revision."""
    return {row.revision: row.text for row in await session.execute(_TEXTS, {"id": mailing_id})}


def _found(mailing: Mailing | None, mailing_id: int) -> Mailing:
    if mailing is None:
        raise NotFound(f"There is no mailing {mailing_id}.")
    return mailing
