"""`/admin/`: the start page."""

from functools import partial

from litestar import Response, get

from mailing.admin import polling
from mailing.admin.guards import POLLING_VIEWER, VIEWER
from mailing.admin.home.overview import CACHE_S, read_page_data
from mailing.admin.single_flight import single_flight
from mailing.web.state import AnyRequest, state_of

INTERVAL_S = 3


@get("/", guards=VIEWER)
async def home(request: AnyRequest) -> Response[str]:
    return polling.full_page(request, "home/page.html", await _overview(request))


@get("/live", guards=POLLING_VIEWER)
async def home_fragment(request: AnyRequest) -> Response[str]:
    return polling.fragment(request, await _overview(request))


async def _overview(request: AnyRequest) -> polling.Part:
    reader = partial(read_page_data, state_of(request).sessions, state_of(request).settings)
    data = await single_flight(request).read("home", reader, cache_s=CACHE_S)
    return polling.Part("home/overview.html", {"overview": data}, data.renderings, INTERVAL_S)
