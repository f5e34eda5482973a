"""`mailing api`: the API and the admin page."""

import os

import click

from mailing.cli.database import wait_for_schema
from mailing.cli.options import example, supervised, waiting
from mailing.cli.runtime import configured, pause_garbage_collection, run
from mailing.database.connection_settings import API_LIMIT_S
from mailing.observability import log, tracing
from mailing.process.ports import require_free_port
from mailing.process.preparation import create_first_user


@click.command(epilog=example("mailing api"))
@waiting
@supervised
def api(wait_s: float) -> None:
    """Serve the API, its documentation, the admin page, health and metrics. Any number may run."""
    settings = configured("database_url")
    require_free_port(settings.host, settings.port)
    tracing.start("mailing-api", os.environ)
    with pause_garbage_collection():
        from mailing.app import create_app  # noqa: PLC0415 - without collections
        from mailing.web.server import serve  # noqa: PLC0415 - as above

        app = create_app(settings)
    run(wait_for_schema(settings, wait_s, limit_s=API_LIMIT_S))
    if settings.admin_password:  # before the server starts, to report a wrong setting here
        run(create_first_user(str(settings.database_url), settings.admin_password))
    log.cache_loggers()
    serve(app, host=settings.host, port=settings.port)
