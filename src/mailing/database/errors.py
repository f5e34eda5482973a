"""Errors of the database: which are transient, and their cause and SQLSTATE."""

import sys

import asyncpg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from mailing.database import connections

# Whatever the database's libraries raise, mistakes of this program included: for whoever only tells it to a person.
# Whoever goes on or tries again catches `transient()`. asyncpg's own errors come unwrapped from a COMMIT.
DATABASE_ERRORS = (DBAPIError, PoolTimeout, *connections.DRIVER_ERRORS)


READ_ONLY = "25006"
# by SQLSTATE, two digits for a whole class: connection, idle, rollback (deadlock), resources, intervention
_PASSING = ("08", "25P03", "40", "53", "55P03", "57", "58", READ_ONLY)
# The last: a migration changed a table under a statement that was prepared before.
_LOST = (
    OSError,
    PoolTimeout,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.exceptions.InvalidCachedStatementError,
)


def is_transient(error: BaseException | None) -> bool:
    """Whether the same may work a moment later: the database is away, too slow, out of something, or the connection was
    lost in the middle. A constraint, a missing table, a wrong value are not: who tried them again would do so for ever.
    """
    root = cause(error)
    lost = isinstance(error, DBAPIError) and error.connection_invalidated
    misused = isinstance(root, ValueError)  # asyncpg's DataError is an InterfaceError too
    busy = isinstance(root, _LOST) and not misused
    return lost or busy or sqlstate(error).startswith(_PASSING)


def transient() -> tuple[type[Exception], ...]:
    """For `except`, which evaluates it while an exception is being handled: catches those that `is_transient`."""
    return (Exception,) if is_transient(sys.exception()) else ()


def cause(error: BaseException | None) -> BaseException | None:
    """What asyncpg raised, without SQLAlchemy's own class around it."""
    return error.orig and (error.orig.__cause__ or error.orig) if isinstance(error, DBAPIError) else error


def sqlstate(error: BaseException | None) -> str:
    """Empty where the server did not answer."""
    return str(getattr(cause(error), "sqlstate", None) or "")
