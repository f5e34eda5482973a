"""What the fixtures of the gateway's tests are: functions that start a server, make a client and send by it."""

from collections.abc import Awaitable, Callable

from mailing.gateway.client import GatewayClient
from mailing.gateway.outcome import Answer

StartServer = Callable[..., Awaitable[int]]
MakeGateway = Callable[..., GatewayClient]
Send = Callable[..., Awaitable[Answer]]
