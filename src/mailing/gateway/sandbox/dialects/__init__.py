"""How each provider is spoken with, from its own side: what it is sent, what it answers and what it reports."""

from collections.abc import Callable, Mapping
from typing import Final

from mailing.gateway.sandbox.dialects.dialect import Dialect
from mailing.gateway.sandbox.dialects.infobip import InfobipDialect
from mailing.gateway.sandbox.dialects.kannel import KannelDialect
from mailing.gateway.sandbox.dialects.probe import ProbeDialect
from mailing.gateway.sandbox.dialects.smsc import SmscDialect
from mailing.gateway.sandbox.dialects.twilio import TwilioDialect

DIALECTS: Final[Mapping[str, Callable[[], Dialect]]] = {
    "probe": ProbeDialect,
    "kannel": KannelDialect,
    "twilio": TwilioDialect,
    "infobip": InfobipDialect,
    "smsc": SmscDialect,
}


def base_path_of(provider: str) -> str:
    """Return the path of the address at which the sandbox is this provider."""
    return DIALECTS[provider]().base
