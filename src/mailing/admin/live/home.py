"""`/admin/`: whether everything works, and what is under way."""

from functools import partial
from typing import Any

from litestar import Request, Response, get

from mailing.access.roles import Role
from mailing.admin.guards import follows, needs
from mailing.admin.live import part
from mailing.admin.live.glance import READ_FOR_S, Glance, glance
from mailing.admin.live.shared import shared

EVERY_S = 3


@get("/", guards=[needs(Role.VIEWER)])
async def home(request: Request[Any, Any, Any]) -> Response[str]:
    seen = await _glance(request)
    return part.whole(request, "live/home.html", "live/glance.html", every_s=EVERY_S, kept=seen.kept, glance=seen)


@get("/live", guards=[follows(Role.VIEWER)])
async def home_live(request: Request[Any, Any, Any]) -> Response[str]:
    seen = await _glance(request)
    return part.again(request, "live/glance.html", every_s=EVERY_S, kept=seen.kept, glance=seen)


async def _glance(request: Request[Any, Any, Any]) -> Glance:
    state = request.app.state
    return await shared(request).read("glance", partial(glance, state.sessions, state.settings), for_s=READ_FOR_S)
