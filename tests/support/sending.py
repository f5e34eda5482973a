"""What the send jobs of a worker share, without a worker."""

from mailing.database.monotonic import Ticks, ticks
from mailing.gateway.client import GatewayClient
from mailing.gateway.flow_control import FlowControl
from mailing.gateway.providers.probe import Probe
from mailing.messages.leases import RetryPolicy
from mailing.sending.context import SendContext
from mailing.settings import Settings
from support.database import Database


async def send_context(db: Database, *, timeout_s: float = 10, ticks: Ticks = ticks) -> SendContext:
    """Build the context of a worker that has read the state of the gateway, at whose address nothing answers."""
    gateway = GatewayClient(Probe(Settings()), base_url="http://127.0.0.1:9/v1", timeout_s=timeout_s, concurrency=1)
    flow_control = FlowControl(db.sessions, ticks)
    await flow_control.refresh()
    policy = RetryPolicy(hold=False, base_s=5, max_s=600)
    return SendContext(
        db.sessions, db.sessions, gateway, flow_control, policy, timeout_s=timeout_s, max_jobs=1, ticks=ticks
    )
