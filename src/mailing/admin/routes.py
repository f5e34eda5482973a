"""`/admin/`: every slice brings its pages."""

from pathlib import Path
from typing import Any

from litestar import Request, Router, get
from litestar.di import Provide
from litestar.exceptions import HTTPException
from litestar.params import FromPath
from litestar.types import ControllerRouterHandler

from mailing.admin import pages
from mailing.admin.clients.routes import clients
from mailing.admin.guards import SignInNeeded, anybody, same_origin
from mailing.admin.live.routes import LIVE
from mailing.admin.mailings.actions import ControlPages
from mailing.admin.mailings.releasing import ReleasePages
from mailing.admin.mailings.routes import MailingPages
from mailing.admin.preferences import keep_preferences
from mailing.admin.reports.routes import reports
from mailing.admin.signin import signin
from mailing.admin.viewer import provide_viewer
from mailing.errors import NotFound
from mailing.web.idempotency import provide_session
from mailing.web.problems import EXCEPTION_HANDLERS

PAGES: list[ControllerRouterHandler] = [clients, MailingPages, ControlPages, ReleasePages, reports, keep_preferences]


def admin() -> Router:
    return Router(
        "/admin",
        route_handlers=[*PAGES, *LIVE, *signin, nowhere],
        guards=[same_origin],
        dependencies={
            "session": Provide(provide_session),
            "viewer": Provide(provide_viewer),
            "caller": Provide(provide_caller),
        },
        exception_handlers={
            **dict.fromkeys([*EXCEPTION_HANDLERS, HTTPException], pages.problem_page),
            SignInNeeded: pages.to_sign_in,
        },
        include_in_schema=False,
        request_max_body_size=pages.FORM_BYTES,
    )


async def provide_caller(request: Request[Any, Any, Any]) -> str:
    """Who does it, for the record of events."""
    return str(request.user)


@get("/{path:path}", guards=[anybody])
async def nowhere(path: FromPath[Path]) -> None:
    raise NotFound(f"There is no page {path.as_posix()}.")
