"""Log an error after which the process continues."""

from typing import Any

from structlog.stdlib import BoundLogger

from mailing.database.errors import cause, is_transient, sqlstate


def log(logger: BoundLogger, event: str, error: BaseException, **ids: object) -> None:
    """Log a transient error as a warning, any other as an error.

    An error of the server has its SQLSTATE and message without the DETAIL, which repeats the row. Any other error has a
    traceback.
    """
    if is_transient(error):
        logger.warning(event, error=type(error).__name__, **ids)
    else:
        logger.error(event, error=type(cause(error)).__name__, **_in_full(error), **ids)


def _in_full(error: BaseException) -> dict[str, Any]:
    if not sqlstate(error):
        return {"exc_info": error}
    return {"sqlstate": sqlstate(error), "message": str(cause(error)).partition("\n")[0]}
