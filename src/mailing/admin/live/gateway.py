"""`/admin/gateway`: how the gateway does, and what a person may change while messages go out."""

from functools import partial
from typing import Any

import msgspec
from litestar import Request, Response, get, post
from msgspec import Struct, field

from mailing.access.roles import Role
from mailing.admin.guards import follows, needs
from mailing.admin.live import part
from mailing.admin.live.charts import columns, segments
from mailing.admin.live.part import Renderings
from mailing.admin.live.shared import shared
from mailing.admin.pages import form, page, seen_other
from mailing.admin.viewer import CurrentViewer
from mailing.database.engine import Sessions, transaction
from mailing.gateway import actions
from mailing.gateway.repository import GatewayState, read
from mailing.gateway.schemas import GatewayPatch
from mailing.mailings.states import MailingStatus
from mailing.statistics.latency import RecentCalls, recent_calls
from mailing.statistics.mailing_list import open_mailings
from mailing.web.parameters import Caller, Session

EVERY_S = 2
READ_FOR_S = 1.5
PATH = "/admin/gateway"


class Look(Struct, frozen=True):
    state: GatewayState
    calls: RecentCalls
    kept: Renderings = field(default_factory=dict)


@get("/gateway", guards=[needs(Role.VIEWER)])
async def gateway_page(request: Request[Any, Any, Any]) -> Response[str]:
    look = await _look(request)
    return _whole(request, look, errors={}, rate=f"{look.state.rate:g}")


@get("/gateway/live", guards=[follows(Role.VIEWER)])
async def gateway_live(request: Request[Any, Any, Any]) -> Response[str]:
    return part.again(request, "live/calls.html", every_s=EVERY_S, **_shown(await _look(request)))


@post("/gateway/rate", guards=[needs(Role.SENDER)], status_code=303)
async def change_rate(
    request: Request[Any, Any, Any], session: Session, viewer: CurrentViewer, caller: Caller
) -> Response[Any]:
    given = (await form(request)).get("rate", "")
    rate = _rate(given)
    if rate is None:
        wrong = viewer.gettext("Enter a number from 0 to 100000; 0 means no limit.")
        return _whole(request, await _look(request), errors={"rate": wrong}, rate=given)
    await actions.change_rate(session, rate, by=caller)
    return seen_other(PATH, notice=viewer.gettext("The rate limit is changed; workers keep it from a second later on."))


def _rate(given: str) -> float | None:
    try:
        return msgspec.convert({"rate": given.replace(",", ".")}, GatewayPatch, strict=False).rate
    except msgspec.ValidationError:
        return None


@get("/gateway/stop", guards=[needs(Role.SENDER)])
async def confirm_stop(request: Request[Any, Any, Any], session: Session) -> Response[str]:
    """In numbers: what the stop would hold back."""
    running = [line for line in await open_mailings(session) if line.status is MailingStatus.running]
    waiting = sum(line.counts.pending for line in running)
    in_calls = sum(line.counts.sending for line in running)
    return page(request, "live/stop.html", mailings=len(running), waiting=waiting, in_calls=in_calls)


@post("/gateway/stop", guards=[needs(Role.SENDER)], status_code=303)
async def stop(session: Session, viewer: CurrentViewer, caller: Caller) -> Response[None]:
    await actions.stop(session, by=caller)
    return seen_other(PATH, notice=viewer.gettext("All sending is stopped."))


@post("/gateway/start", guards=[needs(Role.SENDER)], status_code=303)
async def start(session: Session, viewer: CurrentViewer, caller: Caller) -> Response[None]:
    await actions.start(session, by=caller)
    return seen_other(PATH, notice=viewer.gettext("Sending goes on; workers notice within a few seconds."))


@post("/gateway/probe", guards=[needs(Role.SENDER)], status_code=303)
async def probe(session: Session, viewer: CurrentViewer, caller: Caller) -> Response[None]:
    await actions.probe(session, by=caller)
    return seen_other(PATH, notice=viewer.gettext("The gateway is tried now."))


async def _look(request: Request[Any, Any, Any]) -> Look:
    return await shared(request).read("gateway", partial(read_look, request.app.state.sessions), for_s=READ_FOR_S)


async def read_look(sessions: Sessions) -> Look:
    async with transaction(sessions) as session:
        return Look(await read(session), await recent_calls(session))


def _whole(request: Request[Any, Any, Any], look: Look, *, errors: dict[str, str], rate: str) -> Response[str]:
    answer = part.whole(
        request, "live/gateway.html", "live/calls.html", every_s=EVERY_S, errors=errors, rate=rate, **_shown(look)
    )
    answer.status_code = 400 if errors else 200
    return answer


def _shown(look: Look) -> dict[str, Any]:
    return {
        "kept": look.kept,
        "state": look.state,
        "calls": look.calls,
        "bar": segments({outcome.value: calls for outcome, calls in look.calls.outcomes.items()}),
        "columns": columns([stretch.calls for stretch in look.calls.latencies]),
    }
