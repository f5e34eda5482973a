"""Log an error after which the process continues."""

import time
from typing import Final

from structlog.stdlib import BoundLogger

from mailing.database.errors import cause, is_transient, sqlstate

REPEAT_AFTER_S: Final = 10.0

_logged_at: dict[tuple[object, ...], float] = {}


def log(logger: BoundLogger, event: str, error: BaseException, **ids: object) -> None:
    """Log a transient error as a warning, one line in REPEAT_AFTER_S while it lasts, and any other as an error.

    An error of the server has its SQLSTATE and message without the DETAIL, which repeats the row. Any other that is not
    transient has a traceback.
    """
    kind, state = type(cause(error)).__name__, sqlstate(error)
    found: dict[str, object] = {"sqlstate": state, "message": str(cause(error)).partition("\n")[0]} if state else {}
    if not is_transient(error):
        logger.error(event, error=kind, **(found or {"exc_info": error}), **ids)
    elif _is_due(event, kind, *ids.values()):
        logger.warning(event, error=kind, **found, **ids)


def _is_due(*line: object) -> bool:
    now = time.monotonic()
    for old in [each for each, at in _logged_at.items() if now - at >= REPEAT_AFTER_S]:
        del _logged_at[old]
    return _logged_at.setdefault(line, now) == now
