from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, DateTime, Identity, Text, func
from sqlalchemy.orm import Mapped, mapped_column

from mailing.database.engine import Base


class Client(Base):
    """A recipient. `phone` is 7XXXXXXXXXX, `operator_code` its digits 2-4 unless given, `timezone` an IANA name."""

    __tablename__ = "client"
    __mapper_args__: Any = {"eager_defaults": True}  # noqa: RUF012 - SQLAlchemy's way; RETURNING brings the defaults

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    phone: Mapped[str] = mapped_column(Text, unique=True)
    operator_code: Mapped[str] = mapped_column(Text)
    tag: Mapped[str | None] = mapped_column(Text)
    timezone: Mapped[str] = mapped_column(Text)
    opted_out: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=func.now(), onupdate=func.now()
    )
