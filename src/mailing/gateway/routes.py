"""`/mailing/api/gateway`: the gateway's state, and what an operator may change while workers run."""

from litestar import Controller, get, patch
from litestar.params import JSONBody

from mailing.gateway import actions
from mailing.gateway.repository import read
from mailing.gateway.schemas import GatewayOut, GatewayPatch
from mailing.web.idempotency import post
from mailing.web.parameters import Caller, Session


class GatewayController(Controller):
    path = "/gateway"
    tags = ["gateway"]  # noqa: RUF012 - Litestar's way to declare it

    @get("/", summary="Read the gateway's state")
    async def read_gateway(self, session: Session) -> GatewayOut:
        """Read the state that all workers share: circuit breaker, pauses, rate limit, an operator's stop."""
        return GatewayOut.of(await read(session))

    @patch("/", summary="Change the rate limit")
    async def change_gateway(self, session: Session, caller: Caller, data: JSONBody[GatewayPatch]) -> GatewayOut:
        """Every worker keeps the new rate within a second, and after a restart. It holds until it is changed again, by
        this route or by another value of MAILING_GATEWAY_RATE. No second holds more calls than the rate.
        """
        await actions.change_rate(session, data.rate, by=caller)
        return GatewayOut.of(await read(session))

    @post("/stop", status_code=200, summary="Stop all sending")
    async def stop_gateway(self, session: Session, caller: Caller) -> GatewayOut:
        """Stop in an emergency: no call of any mailing begins more than a second later. Mailings still end in time."""
        await actions.stop(session, by=caller)
        return GatewayOut.of(await read(session))

    @post("/start", status_code=200, summary="Send again")
    async def start_gateway(self, session: Session, caller: Caller) -> GatewayOut:
        """End the stop. Workers notice within a few seconds."""
        await actions.start(session, by=caller)
        return GatewayOut.of(await read(session))

    @post("/probe", status_code=200, summary="Try the gateway now")
    async def probe_gateway(self, session: Session, caller: Caller) -> GatewayOut:
        """Use it when the gateway works again: the breaker's next probe is due, and a pause it asked for is over."""
        await actions.probe(session, by=caller)
        return GatewayOut.of(await read(session))
