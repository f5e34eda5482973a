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
    state, is_poll = state_of(request), request.url.path.endswith("/live")
    reading = partial(reader, state.sessions)
    return await state.single_flight.read((key, is_poll), reading, cache_s=CACHE_S if is_poll else 0)


def full_page(request: AnyRequest, template: str, part: Part, **values: Any) -> Response[str]:  # noqa: ANN401 - as `page` takes them
    """`template` includes `polling_part.html` where `part` goes. It gets the values of `part` as well."""
    content = _content(request, part)
    return page(request, template, **_part_values(request, part, content), **part.values, **values)


def fragment(request: AnyRequest, part: Part) -> Response[str]:
    """Answer a poll, whose address ends in `/live`."""
    content = _content(request, part)
    if request.query_params.get("seen") == _version(content):
        return Response("", status_code=NO_CONTENT)
    return page(request, "polling_part.html", **_part_values(request, part, content))


def _content(request: AnyRequest, part: Part) -> str:
    viewer = _without_identity(viewer_of(request))
    if viewer not in part.renderings:
        part.renderings[viewer] = render(viewer, part.template, **part.values)
    return part.renderings[viewer]


def _without_identity(viewer: Viewer) -> Viewer:
    """Leave language, time zone and role only: a rendering is shared between users."""
    role = viewer.user.role if viewer.user else Role.VIEWER
    return replace(viewer, user=User(0, "", role), path="")


def _part_values(request: AnyRequest, part: Part, content: str) -> dict[str, Any]:
    path = request.url.path.removesuffix("/live").rstrip("/")
    return {
        "part": Markup(content),  # noqa: S704 - rendered here, with autoescape
        "version": _version(content),
        "part_path": f"{path}/live",
        "interval_s": part.interval_s,
    }


def _version(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()[:16]
