"""`/admin/gateway`: the gateway's state, the rate limit, the stop of all sending."""

from functools import partial
from typing import Any

import msgspec
from litestar import Response, get
from msgspec import Struct, field

from mailing.admin import polling
from mailing.admin.charts import columns, segments
from mailing.admin.forms import form, post_form
from mailing.admin.guards import POLLING_VIEWER, SENDER, VIEWER
from mailing.admin.pages import page, redirect
from mailing.admin.polling import Renderings
from mailing.admin.single_flight import single_flight
from mailing.admin.viewer import CurrentViewer
from mailing.database.engine import Sessions, transaction
from mailing.gateway import actions
from mailing.gateway.providers import holds_unknown, sends_receipts
from mailing.gateway.repository import GatewayState, read
from mailing.gateway.schemas import GatewayPatch
from mailing.mailings.states import MailingStatus
from mailing.settings import Settings
from mailing.statistics.latency import RecentCalls, recent_calls
from mailing.statistics.mailing_list import open_mailings
from mailing.web.parameters import Caller, Session
from mailing.web.state import AnyRequest, state_of

INTERVAL_S = 2
CACHE_S = 1.5
PATH = "/admin/gateway"


class PageData(Struct, frozen=True):
    state: GatewayState
    calls: RecentCalls
    renderings: Renderings = field(default_factory=dict)


@get("/gateway", guards=VIEWER)
async def gateway_page(request: AnyRequest) -> Response[str]:
    data = await _page_data(request)
    return _full_page(request, data, errors={}, rate=f"{data.state.rate:g}")


@get("/gateway/live", guards=POLLING_VIEWER)
async def gateway_fragment(request: AnyRequest) -> Response[str]:
    return polling.fragment(request, _status(await _page_data(request)))


@post_form("/gateway/rate", guards=SENDER)
async def change_rate(request: AnyRequest, session: Session, viewer: CurrentViewer, caller: Caller) -> Response[Any]:
    given = (await form(request)).get("rate", "")
    rate = _rate(given)
    if rate is None:
        wrong = viewer.gettext("Enter a number from 0 to 100000; 0 means no limit.")
        return _full_page(request, await _page_data(request), errors={"rate": wrong}, rate=given)
    await actions.change_rate(session, rate, by=caller)
    return redirect(PATH, notice=viewer.gettext("The rate limit was changed. Workers apply it within a second."))


def _rate(given: str) -> float | None:
    try:
        return msgspec.convert({"rate": given.replace(",", ".")}, GatewayPatch, strict=False).rate
    except msgspec.ValidationError:
        return None


@get("/gateway/stop", guards=SENDER)
async def confirm_stop(request: AnyRequest, session: Session) -> Response[str]:
    """Ask for confirmation, with the number of messages that the stop would hold back."""
    running = [line for line in await open_mailings(session) if line.status is MailingStatus.running]
    waiting = sum(line.counts.pending for line in running)
    in_calls = sum(line.counts.sending for line in running)
    return page(request, "gateway/stop.html", mailings=len(running), waiting=waiting, in_calls=in_calls)


@post_form("/gateway/stop", guards=SENDER)
async def stop(session: Session, viewer: CurrentViewer, caller: Caller) -> Response[None]:
    await actions.stop(session, by=caller)
    return redirect(PATH, notice=viewer.gettext("All sending is stopped."))


@post_form("/gateway/start", guards=SENDER)
async def start(session: Session, viewer: CurrentViewer, caller: Caller) -> Response[None]:
    await actions.start(session, by=caller)
    return redirect(PATH, notice=viewer.gettext("Sending was resumed. Workers notice within a few seconds."))


@post_form("/gateway/probe", guards=SENDER)
async def probe(session: Session, viewer: CurrentViewer, caller: Caller) -> Response[None]:
    await actions.probe(session, by=caller)
    return redirect(PATH, notice=viewer.gettext("The gateway is being probed."))


async def _page_data(request: AnyRequest) -> PageData:
    return await single_flight(request).read(
        "gateway", partial(read_page_data, state_of(request).sessions), cache_s=CACHE_S
    )


async def read_page_data(sessions: Sessions) -> PageData:
    async with transaction(sessions) as session:
        return PageData(await read(session), await recent_calls(session))


def _full_page(request: AnyRequest, data: PageData, *, errors: dict[str, str], rate: str) -> Response[str]:
    told = promises(state_of(request).settings)
    status = 400 if errors else 200
    return polling.full_page(
        request, "gateway/page.html", _status(data), status=status, errors=errors, rate=rate, **told
    )


def promises(settings: Settings) -> dict[str, Any]:
    """Return what the configured provider promises, as this process is configured."""
    receipts = "on" if settings.public_url else "off"
    return {
        "provider": settings.gateway_provider,
        "holds_unknown": holds_unknown(settings),
        "receipts": receipts if sends_receipts(settings) else "none",
    }


def _status(data: PageData) -> polling.Part:
    values: dict[str, object] = {
        "state": data.state,
        "calls": data.calls,
        "bar": segments({outcome.value: calls for outcome, calls in data.calls.outcomes.items()}),
        "columns": columns([stretch.calls for stretch in data.calls.latencies]),
    }
    return polling.Part("gateway/status.html", values, data.renderings, INTERVAL_S)


gateway = [gateway_page, gateway_fragment, change_rate, confirm_stop, stop, start, probe]
