"""`/admin/`: the router of all pages."""

from pathlib import Path

from litestar import Router, get
from litestar.di import Provide
from litestar.exceptions import HTTPException
from litestar.params import FromPath
from litestar.types import ControllerRouterHandler

from mailing.admin import pages
from mailing.admin.clients.routes import clients
from mailing.admin.form_keys import FormKeys, replay_or_begin
from mailing.admin.forms import MAX_FORM_BYTES
from mailing.admin.gateway.routes import gateway
from mailing.admin.guards import PUBLIC, SignInRequired, same_origin
from mailing.admin.home.routes import home
from mailing.admin.mailings.actions import ActionPages
from mailing.admin.mailings.detail import mailing_page
from mailing.admin.mailings.releasing import ReleasePages
from mailing.admin.mailings.routes import MailingPages
from mailing.admin.messages.routes import messages
from mailing.admin.preferences import keep_preferences
from mailing.admin.reports.routes import reports
from mailing.admin.signin import signin
from mailing.admin.signin.routes import sign_in_required
from mailing.admin.statistics.routes import statistics_page
from mailing.admin.viewer import viewer_of
from mailing.errors import NotFound
from mailing.web.idempotency import provide_session
from mailing.web.parameters import exact_numbers_only, provide_caller
from mailing.web.problems import EXCEPTION_HANDLERS

PAGES: list[ControllerRouterHandler] = [
    home,
    MailingPages,
    mailing_page,
    ActionPages,
    ReleasePages,
    *messages,
    clients,
    statistics_page,
    reports,
    *gateway,
    *signin,
    keep_preferences,
]


def admin() -> Router:
    return Router(
        "/admin",
        route_handlers=[*PAGES, unknown_page],
        guards=[same_origin, exact_numbers_only],
        middleware=[FormKeys],
        before_request=replay_or_begin,
        dependencies={
            "session": Provide(provide_session),
            "viewer": Provide(viewer_of, sync_to_thread=False),
            "caller": Provide(provide_caller),
        },
        exception_handlers={
            **dict.fromkeys([*EXCEPTION_HANDLERS, HTTPException], pages.problem_page),
            SignInRequired: sign_in_required,
        },
        include_in_schema=False,
        request_max_body_size=MAX_FORM_BYTES,
    )


@get("/{path:path}", guards=PUBLIC)
async def unknown_page(path: FromPath[Path]) -> None:
    raise NotFound("There is no page %(path)s.", path=path.as_posix())
