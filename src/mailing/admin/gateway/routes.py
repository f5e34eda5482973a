from typing import Any

import msgspec
from litestar import Response, get

from mailing.admin import polling
from mailing.admin.charts import columns, segments
from mailing.admin.forms import form, post_form
from mailing.admin.guards import SENDER, VIEWER
from mailing.admin.pages import page, redirect
from mailing.admin.viewer import CurrentViewer
from mailing.database.engine import Sessions, transaction
from mailing.gateway import actions
from mailing.gateway.providers import holds_unknown, sends_receipts
from mailing.gateway.repository import read
from mailing.gateway.schemas import GatewayPatch
from mailing.mailings.states import MailingStatus
from mailing.settings import Settings
from mailing.statistics.latency import recent_calls
from mailing.statistics.mailing_list import open_mailings
from mailing.web.parameters import Caller, Session
from mailing.web.state import AnyRequest, state_of

INTERVAL_S = 2
PATH = "/admin/gateway"


@get(["/gateway", "/gateway/live"], guards=VIEWER)
async def gateway_page(request: AnyRequest) -> Response[str]:
    return await _page(request)


@post_form("/gateway/rate", guards=SENDER)
async def change_rate(request: AnyRequest, session: Session, viewer: CurrentViewer, caller: Caller) -> Response[Any]:
    given = (await form(request)).get("rate", "")
    rate = _rate(given)
    if rate is None:
        wrong = viewer.gettext("Enter a number from 0 to 100000; 0 means no limit.")
        return await _page(request, rate=given, errors={"rate": wrong})
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
    waiting = sum(line.pending for line in running)
    in_calls = sum(line.sending for line in running)
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


async def _read_status(sessions: Sessions) -> polling.Part:
    async with transaction(sessions) as session:
        state, calls = await read(session), await recent_calls(session)
    values = {
        "state": state,
        "calls": calls,
        "bar": segments({outcome.value: count for outcome, count in calls.outcomes.items()}),
        "columns": columns([stretch.calls for stretch in calls.latencies]),
    }
    return polling.Part("gateway/status.html", values, INTERVAL_S)


async def _page(request: AnyRequest, *, rate: str | None = None, errors: dict[str, str] | None = None) -> Response[str]:
    status, values = await polling.shared(request, "gateway", _read_status), promises(state_of(request).settings)
    rate = f"{status.values['state'].rate:g}" if rate is None else rate
    return polling.answer(request, "gateway/page.html", status, errors=errors, rate=rate, **values)


def promises(settings: Settings) -> dict[str, Any]:
    """Return what the configured provider promises, as this process is configured."""
    receipts = "on" if settings.public_url else "off"
    return {
        "provider": settings.gateway_provider,
        "holds_unknown": holds_unknown(settings),
        "receipts": receipts if sends_receipts(settings) else "none",
    }


gateway = [gateway_page, change_rate, confirm_stop, stop, start, probe]
