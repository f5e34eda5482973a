"""The part of a page that refreshes itself: the browser polls, and gets it when it has changed."""

import hashlib
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from litestar import Response
from markupsafe import Markup
from msgspec import Struct, field
from msgspec.structs import replace

from mailing.access.roles import Role
from mailing.access.sessions import User
from mailing.admin.guards import is_poll
from mailing.admin.pages import page, render
from mailing.admin.viewer import Viewer, viewer_of
from mailing.database.engine import Sessions
from mailing.web.state import AnyRequest, state_of

NO_CONTENT = 204  # htmx leaves the page as it is
CACHE_S = 1.5


class Part(Struct, frozen=True):
    """The data of a part that refreshes itself. `interval_s` is None once nothing can change.

    `renderings` are kept by viewer: rendering costs ten times as much as the rest of a poll.
    """

    template: str
    values: dict[str, Any]
    interval_s: float | None
    renderings: dict[Viewer, str] = field(default_factory=dict)


async def shared(request: AnyRequest, key: object, reader: Callable[[Sessions], Coroutine[Any, Any, Part]]) -> Part:
    """Read a part, or take the one that another request reads; for a poll also the one that was just read.

    A page that is opened, as after a form, shows what the form has changed.
    """
    state, polled = state_of(request), is_poll(request)
    reading = partial(reader, state.sessions)
    return await state.single_flight.read((key, polled), reading, cache_s=CACHE_S if polled else 0)


def answer(request: AnyRequest, template: str, part: Part, **values: Any) -> Response[str]:  # noqa: ANN401 - as `page` takes them
    """Answer with the page, and a poll with `part` alone, if it has changed.

    `template` includes `polling_part.html` where `part` goes. It gets the values of `part` as well.
    """
    content = _content(request, part)
    version = hashlib.sha256(content.encode()).hexdigest()[:16]
    shown: dict[str, Any] = {
        "part": Markup(content),  # noqa: S704 - rendered here, with autoescape
        "version": version,
        "part_path": f"{request.url.path.removesuffix('/live').rstrip('/')}/live",
        "interval_s": part.interval_s,
    }
    if not is_poll(request):
        return page(request, template, **shown, **part.values, **values)
    if request.query_params.get("seen") == version:
        return Response("", status_code=NO_CONTENT)
    return page(request, "polling_part.html", **shown)


def _content(request: AnyRequest, part: Part) -> str:
    viewer = _without_identity(viewer_of(request))
    if viewer not in part.renderings:
        part.renderings[viewer] = render(viewer, part.template, **part.values)
    return part.renderings[viewer]


def _without_identity(viewer: Viewer) -> Viewer:
    """Leave language, time zone and role only: a rendering is shared between users."""
    role = viewer.user.role if viewer.user else Role.VIEWER
    return replace(viewer, user=User(0, "", role), path="")
