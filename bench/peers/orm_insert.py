"""Clients inserted by the ORM, flushed by the thousand in one transaction, without validation."""

import csv
from itertools import islice
from pathlib import Path

from sqlalchemy import create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from bench.follow import done, ready, values

BATCH = 1000


class Base(DeclarativeBase):
    pass


class Client(Base):
    __tablename__ = "client"
    id: Mapped[int] = mapped_column(primary_key=True)
    phone: Mapped[str]
    operator_code: Mapped[str]
    tag: Mapped[str | None]
    timezone: Mapped[str]


def main() -> None:
    given = values()
    engine = create_engine(make_url(given["database"]).set(drivername="postgresql+psycopg"))
    with Path(given["file"]).open(newline="") as file, Session(engine) as session:
        session.connection()
        ready()
        rows = csv.DictReader(file)
        while batch := list(islice(rows, BATCH)):
            session.add_all([Client(**(row | {"tag": row["tag"] or None})) for row in batch])
            session.flush()
            session.expunge_all()
        session.commit()
        done()


if __name__ == "__main__":
    main()
