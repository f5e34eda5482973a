"""What can be looked at while it happens."""

from litestar.types import ControllerRouterHandler

from mailing.admin.live import gateway
from mailing.admin.live.home import home, home_live
from mailing.admin.live.mailing import mailing_live, mailing_page
from mailing.admin.live.messages import message_page, messages_page, resolve_page, search_messages
from mailing.admin.live.statistics import statistics_page

LIVE: list[ControllerRouterHandler] = [
    home,
    home_live,
    mailing_page,
    mailing_live,
    messages_page,
    search_messages,
    message_page,
    resolve_page,
    statistics_page,
    gateway.gateway_page,
    gateway.gateway_live,
    gateway.change_rate,
    gateway.confirm_stop,
    gateway.stop,
    gateway.start,
    gateway.probe,
]
