"""`/admin/`: the start page."""

from functools import partial

from litestar import Response, get

from mailing.access.roles import Role
from mailing.admin import polling
from mailing.admin.guards import require_role, require_role_passive
from mailing.admin.home.overview import CACHE_S, PageData, read_page_data
from mailing.admin.single_flight import single_flight
from mailing.web.state import AnyRequest, state_of

INTERVAL_S = 3


@get("/", guards=[require_role(Role.VIEWER)])
async def home(request: AnyRequest) -> Response[str]:
    data = await _page_data(request)
    return polling.full_page(
        request,
        "home/page.html",
        "home/overview.html",
        interval_s=INTERVAL_S,
        renderings=data.renderings,
        overview=data,
    )


@get("/live", guards=[require_role_passive(Role.VIEWER)])
async def home_fragment(request: AnyRequest) -> Response[str]:
    data = await _page_data(request)
    return polling.fragment(
        request, "home/overview.html", interval_s=INTERVAL_S, renderings=data.renderings, overview=data
    )


async def _page_data(request: AnyRequest) -> PageData:
    state = state_of(request)
    return await single_flight(request).read(
        "home", partial(read_page_data, state.sessions, state.settings), cache_s=CACHE_S
    )
