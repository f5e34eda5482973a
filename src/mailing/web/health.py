"""`/health`: liveness and readiness, without an API key."""

import asyncio
from functools import partial

from litestar import Response, Router, get
from msgspec import Struct
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from mailing.database import connections
from mailing.database.errors import cause
from mailing.database.schema import is_current
from mailing.job_queue.inspection import can_enqueue
from mailing.observability import log
from mailing.web.state import AppState

logger = log.get(__name__)

TIMEOUT_S = 2


class Alive(Struct):
    status: str = "ok"


class NotReady(Struct, kw_only=True):
    """The failed check: database, schema or queue."""

    status: str = "unavailable"
    check: str
    detail: str
    remedy: str


_OTHER_SCHEMA = NotReady(
    check="schema",
    detail="The database schema does not match this version.",
    remedy="Run mailing migrate with the newest version of Mailing that uses this database.",
)
_NO_QUEUE = NotReady(
    check="queue",
    detail="Jobs can't be enqueued: Procrastinate's functions are missing, or the user has no INSERT on its tables.",
    remedy="Grant the database's user what the owner of the schema may do. Run mailing doctor for details.",
)


def health() -> Router:
    return Router(
        "/health",
        route_handlers=[live, ready],
        include_in_schema=False,
        response_headers={"Cache-Control": "no-store"},
    )


@get("/live")
async def live() -> Alive:
    """Check nothing else: a process must not be restarted because its database is unavailable."""
    return Alive()


@get("/ready")
async def ready(state: AppState) -> Response[Alive | NotReady]:
    """Check what a request needs. The endpoint is public, so concurrent requests share one check."""
    check = partial(_check_in_time, state.readiness_engine)
    failure = await state.single_flight.read("readiness", check, cache_s=0)
    if failure:
        logger.warning("not ready", check=failure.check, detail=failure.detail)
    return Response(failure or Alive(), status_code=503 if failure else 200)


async def _check_in_time(engine: AsyncEngine) -> NotReady | None:
    checking = asyncio.create_task(_check(engine))
    try:
        await asyncio.wait({checking}, timeout=TIMEOUT_S)
        if not checking.done():
            return _no_database(f"The database did not answer within {TIMEOUT_S} s.")
        return checking.result()
    except (SQLAlchemyError, *connections.DRIVER_ERRORS) as error:
        kind = type(cause(error)).__name__  # such as TooManyConnectionsError; its text may name users and databases
        return _no_database(f"The connection failed: {kind}.")
    finally:
        checking.cancel()  # not awaited: SQLAlchemy takes 2 s longer to abandon a frozen connection


async def _check(engine: AsyncEngine) -> NotReady | None:
    if not await is_current(engine):
        return _OTHER_SCHEMA
    async with engine.connect() as connection:
        return None if await can_enqueue(connection) else _NO_QUEUE


def _no_database(detail: str) -> NotReady:
    return NotReady(
        check="database",
        detail=detail,
        remedy="Check that PostgreSQL runs and that MAILING_DATABASE_URL is right. Run mailing doctor for details.",
    )
