"""The part of a page that follows what happens: the browser asks again and again, and gets it when it changed."""

import hashlib
from typing import Any

from litestar import Request, Response
from markupsafe import Markup

from mailing.admin.pages import page, rendered

UNCHANGED = 204  # htmx leaves the page as it is


def whole(
    request: Request[Any, Any, Any], template: str, part: str, *, every_s: float | None, **values: object
) -> Response[str]:
    """`template` includes `live/part.html` where `part` goes. `every_s` is None when nothing will change any more."""
    inside = rendered(request, part, **values)
    return page(request, template, status=200, **_of_part(request, inside, every_s), **values)


def again(request: Request[Any, Any, Any], part: str, *, every_s: float | None, **values: object) -> Response[str]:
    """Answers to the address that ends in `/live`."""
    inside = rendered(request, part, **values)
    if request.query_params.get("seen") == _version(inside):
        return Response("", status_code=UNCHANGED)
    return page(request, "live/part.html", status=200, **_of_part(request, inside, every_s))


def _of_part(request: Request[Any, Any, Any], inside: str, every_s: float | None) -> dict[str, object]:
    path = request.url.path.removesuffix("/live").rstrip("/")
    return {"part": Markup(inside), "version": _version(inside), "part_path": f"{path}/live", "every_s": every_s}  # noqa: S704 - rendered here, with autoescape


def _version(inside: str) -> str:
    return hashlib.sha256(inside.encode()).hexdigest()[:16]
