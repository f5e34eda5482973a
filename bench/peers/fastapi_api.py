"""The usual stack: FastAPI, the SQLAlchemy ORM over asyncpg, pydantic for responses. It checks one key."""

import secrets
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated

import uvicorn
from fastapi import Depends, FastAPI, Header, HTTPException, Query
from pydantic import BaseModel, ConfigDict
from sqlalchemy import select
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from bench.follow import values


class Base(DeclarativeBase):
    pass


class Client(Base):
    __tablename__ = "client"
    id: Mapped[int] = mapped_column(primary_key=True)
    phone: Mapped[str]
    operator_code: Mapped[str]
    tag: Mapped[str | None]
    timezone: Mapped[str]
    opted_out: Mapped[bool]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class ClientOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)
    id: int
    phone: str
    operator_code: str
    tag: str | None
    timezone: str
    opted_out: bool
    created_at: datetime
    updated_at: datetime


class Page(BaseModel):
    items: list[ClientOut]
    next_cursor: int | None


def create_app(database: str, key: str) -> FastAPI:
    engine = create_async_engine(make_url(database).set(drivername="postgresql+asyncpg"), pool_size=10, max_overflow=0)
    sessions = async_sessionmaker(engine, expire_on_commit=False)

    async def session() -> AsyncIterator[AsyncSession]:
        async with sessions() as opened, opened.begin():
            yield opened

    def require_key(authorization: Annotated[str, Header()] = "") -> None:
        if not secrets.compare_digest(authorization.encode(), f"Bearer {key}".encode()):
            raise HTTPException(401)

    app = FastAPI(dependencies=[Depends(require_key)])
    Session = Annotated[AsyncSession, Depends(session)]  # noqa: N806 - a type

    @app.get("/mailing/api/clients/{client_id}/")
    async def read(session: Session, client_id: int) -> ClientOut:
        client = await session.get(Client, client_id)
        if client is None:
            raise HTTPException(404)
        return ClientOut.model_validate(client)

    @app.get("/mailing/api/clients/")
    async def list_(session: Session, limit: Annotated[int, Query(ge=1, le=500)] = 50, cursor: int = 0) -> Page:
        page = select(Client).where(Client.id > cursor).order_by(Client.id).limit(limit + 1)
        clients = (await session.scalars(page)).all()
        items = [ClientOut.model_validate(client) for client in clients[:limit]]
        return Page(items=items, next_cursor=items[-1].id if len(clients) > limit else None)

    return app


if __name__ == "__main__":
    given = values()
    uvicorn.run(create_app(given["database"], given["key"]), port=given["port"], log_level="warning", access_log=False)
