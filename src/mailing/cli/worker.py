"""`mailing worker`: worker processes, and their health."""

import os
import sys

import click

from mailing.cli.options import example, supervised, waiting
from mailing.cli.runtime import configured, pause_garbage_collection, run, until_signal
from mailing.observability import log, tracing
from mailing.process import heartbeat


@click.command(epilog=example("MAILING_GATEWAY_URL=https://probe.fbrq.cloud/v1 mailing worker"))
@waiting
@click.option(
    "--health", is_flag=True, help="Do not start a worker. Exit 0 if every worker on this host makes progress."
)
@click.option(
    "--processes", type=click.IntRange(1, 64), default=1, show_default=True, help="Worker processes to keep running."
)
@click.option("--number", type=int, hidden=True)
@supervised
def worker(*, wait_s: float, health: bool, processes: int, number: int | None) -> None:
    """Plan and send mailings, retry, report. Any number may run, on any number of machines.

    A worker uses one processor core. With --processes, each process has its own connections to the gateway and the
    database, and one that dies is restarted. docs/scaling.md says how many are worthwhile.
    """
    if health:
        sys.exit(heartbeat.main())

    from mailing.cli.database import wait_for_schema  # noqa: PLC0415 - a health check runs often and needs none of it
    from mailing.database.connection_settings import WORKER_LIMIT_S  # noqa: PLC0415 - as above
    from mailing.gateway.providers import problems_of  # noqa: PLC0415 - as above
    from mailing.process.worker_pool import run_worker_pool  # noqa: PLC0415 - as above

    settings = configured("database_url", "gateway_url", problems_of=problems_of)
    tracing.start("mailing-worker", os.environ)
    try:
        if processes > 1:
            run(wait_for_schema(settings, wait_s, limit_s=WORKER_LIMIT_S))
            run(run_worker_pool(settings, processes))
            return
        with pause_garbage_collection():
            from mailing.worker import run_worker  # noqa: PLC0415 - a supervisor of workers does not send

        run(wait_for_schema(settings, wait_s, limit_s=WORKER_LIMIT_S))
        with log.worker_context(number):
            run(until_signal(lambda stop: run_worker(settings, stop)))
    finally:
        tracing.finish()
