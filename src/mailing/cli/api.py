"""`mailing api`: the API and the admin page."""

import os

import click

from mailing.cli.database import make_first_user, require_schema
from mailing.cli.options import example, supervised, waiting
from mailing.cli.runtime import configured, run, spare_the_collector
from mailing.observability import log, tracing
from mailing.process.ports import require_free_port


@click.command(epilog=example("mailing api"))
@waiting
@supervised
def api(wait_s: float) -> None:
    """Serve the API, its documentation, the admin page, health and metrics. Any number may run."""
    settings = configured("database_url")
    require_free_port(settings.host, settings.port)
    tracing.start("mailing-api", os.environ)
    with spare_the_collector():
        from mailing.app import create_app  # noqa: PLC0415 - without collections
        from mailing.web.server import serve  # noqa: PLC0415 - as above

        app = create_app(settings)
    run(require_schema(settings, wait_s=wait_s))
    run(make_first_user(settings))
    log.cache_loggers()
    serve(app, host=settings.host, port=settings.port)
