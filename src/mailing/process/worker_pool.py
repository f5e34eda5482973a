"""Several worker processes on one machine, each restarted when it dies: `mailing worker --processes N`."""

import os
import sys

from mailing.errors import MailingError
from mailing.observability.log import get
from mailing.process.supervisor import Child, Signals, supervise, undisturbed, worker_grace_s
from mailing.settings import Settings

logger = get(__name__)


async def run_worker_pool(settings: Settings, processes: int) -> None:
    """Run until a signal. Raise MailingError if a worker refuses to start."""
    signals = Signals()
    signals.listen()
    children = [_worker(number) for number in range(1, processes + 1)]
    grace_s = worker_grace_s(settings.gateway_timeout_s)
    logger.info("workers started", processes=processes)
    refused = await supervise(children, signals=signals, on_event=_log, grace_s=grace_s)
    if refused:
        raise MailingError(f"{refused.name} refuses to start; see its message above")
    undisturbed(logger.info)("workers stopped")


def _worker(number: int) -> Child:
    argv = [sys.executable, "-m", "mailing", "worker", "--supervised", "--number", str(number), "--wait", "60"]
    return Child(f"worker {number}", argv, dict(os.environ))  # uvloop accepts no other mapping


def _log(what: str) -> None:
    logger.warning("worker process ended", what=what)
