"""Errors of the database: which are transient, and their cause and SQLSTATE."""

import errno
import sys

import asyncpg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from mailing.database import connections

# Everything the database libraries raise, including our own mistakes: for code that only reports the error. Code that
# continues or retries catches `transient()`. A COMMIT raises asyncpg's errors unwrapped.
DATABASE_ERRORS = (DBAPIError, PoolTimeout, *connections.DRIVER_ERRORS)


READ_ONLY = "25006"
# SQLSTATEs, two digits for a class: connection, idle, rollback (deadlock), revoked right, resources, operator
# intervention
_TRANSIENT = ("08", "25P03", "40", "42501", "53", "55P03", "57", "58", READ_ONLY)
# The last: a migration changed a table after the statement was prepared.
_LOST = (
    OSError,
    PoolTimeout,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.exceptions.InvalidCachedStatementError,
)


def is_transient(error: BaseException | None) -> bool:
    """Whether a retry may succeed: the database is unavailable, slow, out of a resource, the connection was lost, or a
    right was revoked.

    A violated constraint, a missing table or a wrong value is not transient: retrying would never end. A group is
    transient if all its errors are.
    """
    if isinstance(error, BaseExceptionGroup):
        return all(map(is_transient, error.exceptions))
    root = cause(error)
    lost = isinstance(error, DBAPIError) and error.connection_invalidated
    misused = isinstance(root, ValueError)  # asyncpg's DataError is an InterfaceError too
    busy = isinstance(root, _LOST) and not misused and not lacks_space(root)
    return lost or busy or sqlstate(error).startswith(_TRANSIENT)


def lacks_space(error: BaseException | None) -> bool:
    """Whether a file of this process, such as a temporary one, finds no space. A database's error has an SQLSTATE."""
    return isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}


def transient() -> tuple[type[Exception], ...]:
    """Return the classes for an `except` clause, which Python evaluates while the exception is being handled."""
    return (Exception,) if is_transient(sys.exception()) else ()


def cause(error: BaseException | None) -> BaseException | None:
    """Return the error that asyncpg raised, without SQLAlchemy's wrapper; of a group, the first one."""
    if isinstance(error, BaseExceptionGroup):
        return cause(error.exceptions[0])
    return error.orig and (error.orig.__cause__ or error.orig) if isinstance(error, DBAPIError) else error


def sqlstate(error: BaseException | None) -> str:
    """Return the SQLSTATE, empty if the server did not answer."""
    return str(getattr(cause(error), "sqlstate", None) or "")
