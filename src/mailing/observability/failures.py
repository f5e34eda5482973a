"""What is said about a failure that somebody goes on after."""

from typing import Any

from structlog.stdlib import BoundLogger

from mailing.database.errors import cause, is_transient, sqlstate


def log(logger: BoundLogger, event: str, error: BaseException, **ids: object) -> None:
    """A warning for what passes by itself. Anything else is a mistake of this program or of its database: an error, in
    the server's own words without its DETAIL, which repeats the row; with a traceback where it was not the server.
    """
    if is_transient(error):
        logger.warning(event, error=type(error).__name__, **ids)
    else:
        logger.error(event, error=type(cause(error)).__name__, **_in_full(error), **ids)


def _in_full(error: BaseException) -> dict[str, Any]:
    if not sqlstate(error):
        return {"exc_info": error}
    return {"sqlstate": sqlstate(error), "says": str(cause(error)).partition("\n")[0]}
