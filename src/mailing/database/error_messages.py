"""Messages for the caller about errors of the database."""

import ssl

import asyncpg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from mailing.database.errors import cause, sqlstate
from mailing.reasons.refusals import Refusal, RefusalCode

_BY_STATE = {  # by SQLSTATE, or by the two digits of its class
    "25P03": RefusalCode.transaction_timeout,
    "25006": RefusalCode.read_only,
    "53100": RefusalCode.disk_full,
    "53": RefusalCode.no_resources,
    "57014": RefusalCode.canceled_statement,
    "57": RefusalCode.shutdown,
    "55P03": RefusalCode.lock_timeout,
    "40": RefusalCode.concurrent_change,
    "58": RefusalCode.file_error,
    "08": RefusalCode.connection_lost,
}


def cause_of(error: BaseException) -> RefusalCode | None:
    """Return why the database failed, or None if the statement itself was wrong."""
    root, state = cause(error), sqlstate(error)
    if code := _BY_STATE.get(state) or _BY_STATE.get(state[:2]):
        return code
    if isinstance(root, PoolTimeout):
        return RefusalCode.busy
    if isinstance(root, TimeoutError):
        return RefusalCode.silent
    misused = isinstance(root, ValueError)  # asyncpg's DataError is an InterfaceError too
    lost = isinstance(root, asyncpg.InterfaceError | asyncpg.InternalClientError | ConnectionError) and not misused
    lost = lost or (isinstance(error, DBAPIError) and error.connection_invalidated)
    return RefusalCode.connection_lost if lost else None


def describe(error: BaseException) -> str:
    """Return one line for an operator, also for an error that is not the database's."""
    root = cause(error) or error
    return ": ".join([*getattr(root, "__notes__", ()), _line(root)])  # the connector notes which server it was


def _line(root: BaseException) -> str:
    if isinstance(root, ssl.SSLCertVerificationError):
        trusted = "sslrootcert in MAILING_DATABASE_URL must name the CA that signed it"
        return f"the certificate of the database's server is refused: {root.verify_message.strip('.')}; {trusted}"
    if lines := str(root).strip().splitlines():
        return lines[0]
    return Refusal(RefusalCode.silent).words() if isinstance(root, TimeoutError) else type(root).__name__


def may_be_committed(error: BaseException) -> bool:
    """Whether a COMMIT that raised this may have succeeded. If the server refused it, it did not."""
    state = sqlstate(error)
    return not state or state[:2] in {"08", "57"}
