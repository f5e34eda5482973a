"""Messages for the caller about errors of the database."""

import ssl

import asyncpg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from mailing.database.errors import cause, sqlstate

_BY_STATE = {  # by SQLSTATE, or by the two digits of its class
    "25P03": "the process was frozen during the transaction, and the database rolled it back",
    "25006": "the database is read-only",
    "53100": "the database's disk is full",
    "53": "the database is out of connections or memory",
    "57014": "the database took too long, or waited too long for a lock",
    "57": "the database was shut down or restarted, or ended the connection",
    "55P03": "the database waited too long for a lock",
    "40": "a concurrent change conflicted with it",
    "58": "the database could not read or write its files",
    "08": "the connection to the database was lost",
}
_LOST = "the connection to the database was lost"
SILENT = "the database did not answer in time"
BUSY = "every connection to the database was in use"
CAUSES = (*dict.fromkeys(_BY_STATE.values()), SILENT, BUSY)


def cause_of(error: BaseException) -> str | None:
    """Return why the database failed, or None if the statement itself was wrong."""
    root, state = cause(error), sqlstate(error)
    if message := _BY_STATE.get(state) or _BY_STATE.get(state[:2]):
        return message
    if isinstance(root, PoolTimeout):
        return BUSY
    if isinstance(root, TimeoutError):
        return SILENT
    misused = isinstance(root, ValueError)  # asyncpg's DataError is an InterfaceError too
    lost = isinstance(root, asyncpg.InterfaceError | asyncpg.InternalClientError | ConnectionError) and not misused
    return _LOST if lost or (isinstance(error, DBAPIError) and error.connection_invalidated) else None


def describe(error: BaseException) -> str:
    """Return one line for an operator, also for an error that is not the database's."""
    root = cause(error) or error
    if isinstance(root, ssl.SSLCertVerificationError):
        trusted = "sslrootcert in MAILING_DATABASE_URL must name the CA that signed it"
        return f"the certificate of the database's server is refused: {root.verify_message.strip('.')}; {trusted}"
    lines = str(root).strip().splitlines()
    return lines[0] if lines else SILENT if isinstance(root, TimeoutError) else type(root).__name__


def may_be_committed(error: BaseException) -> bool:
    """Whether a COMMIT that raised this may have succeeded. If the server refused it, it did not."""
    state = sqlstate(error)
    return not state or state[:2] in {"08", "57"}
