"""Why the database did not do what it was asked, in words for whoever asked."""

import ssl

import asyncpg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from mailing.database.errors import cause, sqlstate

_BY_STATE = {  # SQLSTATE, or the two digits of its class
    "25P03": "this process stood still in the middle, and the database gave its transaction up",
    "25006": "the database only reads now",
    "53100": "the database's disk is full",
    "53": "the database has run out of connections or memory",
    "57014": "the database took too long, or waited too long for a lock",
    "57": "the database was shut down or restarted, or ended the connection",
    "55P03": "the database waited too long for a lock",
    "40": "another change stood in the way",
    "58": "the database could not read or write its files",
    "08": "the connection to the database was lost",
}
_LOST = "the connection to the database was lost"
SILENT = "the database did not answer in time"
BUSY = "every connection to the database was in use"
CAUSES = (*dict.fromkeys(_BY_STATE.values()), SILENT, BUSY)


def cause_of(error: BaseException) -> str | None:
    """None where it is not the database's doing: a mistake in what it was asked."""
    root, state = cause(error), sqlstate(error)
    if told := _BY_STATE.get(state) or _BY_STATE.get(state[:2]):
        return told
    if isinstance(root, PoolTimeout):
        return BUSY
    if isinstance(root, TimeoutError):
        return SILENT
    misused = isinstance(root, ValueError)  # asyncpg's DataError is an InterfaceError too
    lost = isinstance(root, asyncpg.InterfaceError | asyncpg.InternalClientError | ConnectionError) and not misused
    return _LOST if lost or (isinstance(error, DBAPIError) and error.connection_invalidated) else None


def describe(error: BaseException) -> str:
    """One line for an operator, also where it is not the database's doing."""
    root = cause(error) or error
    if isinstance(root, ssl.SSLCertVerificationError):
        trusted = "sslrootcert in MAILING_DATABASE_URL must name the CA that signed it"
        return f"the certificate of the database's server is refused: {root.verify_message.strip('.')}; {trusted}"
    lines = str(root).strip().splitlines()
    return lines[0] if lines else SILENT if isinstance(root, TimeoutError) else type(root).__name__


def may_be_done(error: BaseException) -> bool:
    """Of a COMMIT that raised this: whether it may have been done all the same. The server's refusal is not."""
    state = sqlstate(error)
    return not state or state[:2] in {"08", "57"}
