"""The part of a page that refreshes itself: the browser polls, and gets it when it has changed."""

import hashlib
from typing import TypeAlias

from litestar import Response
from markupsafe import Markup
from msgspec import Struct
from msgspec.structs import replace

from mailing.access.roles import Role
from mailing.access.sessions import User
from mailing.admin.pages import page, render
from mailing.admin.viewer import Viewer, viewer_of
from mailing.web.state import AnyRequest

NO_CONTENT = 204  # htmx leaves the page as it is

Renderings: TypeAlias = dict[Viewer, str]
"""Fragments rendered from one read, by viewer: rendering costs ten times as much as the rest of a poll."""


class Part(Struct, frozen=True):
    """What refreshes itself. `interval_s` is None once nothing can change."""

    template: str
    values: dict[str, object]
    renderings: Renderings
    interval_s: float | None


def full_page(request: AnyRequest, template: str, part: Part, *, status: int = 200, **values: object) -> Response[str]:
    """`template` includes `polling_part.html` where `part` goes. It gets the values of `part` as well."""
    content = _content(request, part)
    return page(request, template, status=status, **_part_values(request, part, content), **part.values, **values)


def fragment(request: AnyRequest, part: Part) -> Response[str]:
    """Answer a poll, whose address ends in `/live`."""
    content = _content(request, part)
    if request.query_params.get("seen") == _version(content):
        return Response("", status_code=NO_CONTENT)
    return page(request, "polling_part.html", status=200, **_part_values(request, part, content))


def _content(request: AnyRequest, part: Part) -> str:
    viewer = _without_identity(viewer_of(request))
    if viewer not in part.renderings:
        part.renderings[viewer] = render(viewer, part.template, **part.values)
    return part.renderings[viewer]


def _without_identity(viewer: Viewer) -> Viewer:
    """Leave language, time zone and role only: a rendering is shared between users."""
    role = viewer.user.role if viewer.user else Role.VIEWER
    return replace(viewer, user=User(0, "", role), path="")


def _part_values(request: AnyRequest, part: Part, content: str) -> dict[str, object]:
    path = request.url.path.removesuffix("/live").rstrip("/")
    return {
        "part": Markup(content),  # noqa: S704 - rendered here, with autoescape
        "version": _version(content),
        "part_path": f"{path}/live",
        "interval_s": part.interval_s,
    }


def _version(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()[:16]
