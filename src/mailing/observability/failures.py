"""Log an error after which the process continues."""

from structlog.stdlib import BoundLogger

from mailing.database.errors import cause, is_transient, sqlstate


def log(logger: BoundLogger, event: str, error: BaseException, **ids: object) -> None:
    """Log a transient error as a warning, any other as an error.

    An error of the server has its SQLSTATE and message without the DETAIL, which repeats the row. Any other error has a
    traceback.
    """
    if is_transient(error):
        logger.warning(event, error=type(cause(error)).__name__, **ids)
        return
    state = sqlstate(error)
    found = {"sqlstate": state, "message": str(cause(error)).partition("\n")[0]} if state else {"exc_info": error}
    logger.error(event, error=type(cause(error)).__name__, **found, **ids)
