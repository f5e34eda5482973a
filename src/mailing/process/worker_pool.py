"""Several worker processes on one machine, each kept running: `mailing worker --processes N`."""

import os
import sys

from mailing.errors import MailingError
from mailing.observability.log import get
from mailing.process.supervisor import Child, Signals, supervise
from mailing.settings import Settings

logger = get(__name__)

RECORDING_S = 5.0  # beside the longest call: what a worker that ends cleanly may take


async def run_crew(settings: Settings, processes: int) -> None:
    """Until a signal. Raises MailingError where a worker refuses to start at all."""
    signals = Signals()
    signals.listen()
    children = [_worker(number) for number in range(1, processes + 1)]
    grace_s = settings.gateway_timeout_s + RECORDING_S
    logger.info("workers started", processes=processes)
    refused = await supervise(children, signals=signals, on_event=_tell, grace_s=grace_s)
    if refused:
        raise MailingError(f"{refused.name} refuses to start; its own message stands above")
    logger.info("workers stopped")


def _worker(number: int) -> Child:
    argv = [sys.executable, "-m", "mailing", "worker", "--supervised", "--number", str(number), "--wait", "60"]
    return Child(f"worker {number}", argv, dict(os.environ))  # uvloop takes no other mapping


def _tell(what: str) -> None:
    logger.warning("worker process ended", what=what)
