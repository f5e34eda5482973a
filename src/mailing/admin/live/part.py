"""The part of a page that follows what happens: the browser asks again and again, and gets it when it changed."""

import hashlib
from typing import Any, TypeAlias

from litestar import Request, Response
from markupsafe import Markup
from msgspec.structs import replace

from mailing.access.roles import Role
from mailing.access.sessions import User
from mailing.admin.pages import page, rendered
from mailing.admin.viewer import Viewer, viewer_of

UNCHANGED = 204  # htmx leaves the page as it is

Renderings: TypeAlias = dict[Viewer, str]
"""Of what was read once, for all who see the same: to render costs ten times what the rest of a poll does."""


def whole(
    request: Request[Any, Any, Any],
    template: str,
    part: str,
    *,
    every_s: float | None,
    kept: Renderings,
    **values: object,
) -> Response[str]:
    """`template` includes `live/part.html` where `part` goes. `every_s` is None when nothing will change any more."""
    inside = _inside(request, part, kept, values)
    return page(request, template, status=200, **_of_part(request, inside, every_s), **values)


def again(
    request: Request[Any, Any, Any], part: str, *, every_s: float | None, kept: Renderings, **values: object
) -> Response[str]:
    """Answers to the address that ends in `/live`."""
    inside = _inside(request, part, kept, values)
    if request.query_params.get("seen") == _version(inside):
        return Response("", status_code=UNCHANGED)
    return page(request, "live/part.html", status=200, **_of_part(request, inside, every_s))


def _inside(request: Request[Any, Any, Any], part: str, kept: Renderings, values: dict[str, object]) -> str:
    viewer = _anybody_like(viewer_of(request))
    if viewer not in kept:
        kept[viewer] = rendered(viewer, part, **values)
    return kept[viewer]


def _anybody_like(viewer: Viewer) -> Viewer:
    """A part knows no more of who looks than language, zone and role, or it would show one person's to another."""
    role = viewer.user.role if viewer.user else Role.VIEWER
    return replace(viewer, user=User(0, "", role), path="")


def _of_part(request: Request[Any, Any, Any], inside: str, every_s: float | None) -> dict[str, object]:
    path = request.url.path.removesuffix("/live").rstrip("/")
    return {"part": Markup(inside), "version": _version(inside), "part_path": f"{path}/live", "every_s": every_s}  # noqa: S704 - rendered here, with autoescape


def _version(inside: str) -> str:
    return hashlib.sha256(inside.encode()).hexdigest()[:16]
