from datetime import datetime, time

from sqlalchemy import ARRAY, BigInteger, DateTime, Enum, Identity, Integer, Text, Time, func
from sqlalchemy.orm import Mapped, mapped_column

from mailing.database.engine import Base
from mailing.mailings.states import MailingStatus
from mailing.mailings.window import LocalWindow, next_window
from mailing.messages.rescheduling import SendWindow

Instant = DateTime(timezone=True)


class Mailing(Base):
    """A campaign. Its plan is out of date while `planned_revision` < `plan_revision`; an edit after the start adds 1.

    `content_revision` counts the changes to everything that a release covers. If `released_revision` differs, the
    mailing is a draft; a constraint of the schema keeps the two consistent.
    """

    __tablename__ = "mailing"

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    text: Mapped[str] = mapped_column(Text)
    starts_at: Mapped[datetime] = mapped_column(Instant)
    ends_at: Mapped[datetime] = mapped_column(Instant)
    tags: Mapped[list[str]] = mapped_column(ARRAY(Text))
    operator_codes: Mapped[list[str]] = mapped_column(ARRAY(Text))
    window_start: Mapped[time | None] = mapped_column(Time)
    window_end: Mapped[time | None] = mapped_column(Time)
    status: Mapped[MailingStatus] = mapped_column(Enum(MailingStatus, native_enum=False))
    plan_revision: Mapped[int] = mapped_column(Integer, default=1)
    planned_revision: Mapped[int] = mapped_column(Integer, default=0)
    planning_revision: Mapped[int] = mapped_column(Integer, default=0)
    plan_heartbeat_at: Mapped[datetime | None] = mapped_column(Instant)
    timezone_rules: Mapped[str | None] = mapped_column(Text)
    text_revision: Mapped[int] = mapped_column(Integer, default=1)
    content_revision: Mapped[int] = mapped_column(Integer, default=1)
    released_revision: Mapped[int | None] = mapped_column(Integer)
    released_at: Mapped[datetime | None] = mapped_column(Instant)
    released_by: Mapped[str | None] = mapped_column(Text)
    audience_max_client_id: Mapped[int | None] = mapped_column(BigInteger)
    started_at: Mapped[datetime | None] = mapped_column(Instant)
    finished_at: Mapped[datetime | None] = mapped_column(Instant)
    test_of_mailing_id: Mapped[int | None] = mapped_column(BigInteger)
    deleted_at: Mapped[datetime | None] = mapped_column(Instant)
    created_at: Mapped[datetime] = mapped_column(Instant, server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(Instant, server_default=func.now())

    @property
    def window(self) -> LocalWindow | None:
        if self.window_start is None or self.window_end is None:
            return None
        return LocalWindow(self.window_start, self.window_end)

    def next_window(self, timezone: str, not_before: datetime) -> SendWindow:
        return next_window(timezone, self.window, not_before=not_before, before=self.ends_at)
