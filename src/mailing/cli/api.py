"""`mailing api`: the API and the admin page."""

import os

import click

from mailing.app import create_app
from mailing.cli.database import make_first_user, require_schema
from mailing.cli.options import example, supervised, waiting
from mailing.cli.runtime import configured, run, spare_the_collector
from mailing.observability import tracing
from mailing.process.ports import require_free_port
from mailing.web.server import serve


@click.command(epilog=example("mailing api"))
@waiting
@supervised
def api(wait_s: float) -> None:
    """Serve the API, its documentation, the admin page, health and metrics. Any number may run."""
    settings = configured("database_url")
    require_free_port(settings.host, settings.port)
    tracing.start("mailing-api", os.environ)
    run(require_schema(settings, wait_s=wait_s))
    run(make_first_user(settings))
    app = create_app(settings)
    spare_the_collector()
    serve(app, host=settings.host, port=settings.port)
